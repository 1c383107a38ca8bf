"""The pictures of README and docs: each shows the pages as they are, or is drawn again.

A picture whose layout is no longer that of the page is replaced, and the test fails, so that the new one is looked at and
committed. Fonts and hinting differ between machines, so layouts are compared: the mean colours of a grid of fields.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.async_api import Page

from tests.browser.chromium import opened, shared
from tests.browser.pages import OPEN_INCIDENT, connected, signed_in
from tests.support.gateway_process import ROOT
from tests.support.native_gateway import State

pytestmark = pytest.mark.asyncio(loop_scope="session")
COLUMNS = 64
"""Fields beside each other, of 20 by 20 pixels."""
MOST_DIFFERENT = 0.02
"""The part of the fields that may differ."""
LEAST = 24
"""How much the colour of a field differs, of 255, from which it counts: a line of text that is there or not."""
COMPARE = """async ([drawn, known, columns]) => {
    const fields = async data => {
        const image = await createImageBitmap(await (await fetch("data:image/png;base64," + data)).blob());
        const rows = Math.round(columns * image.height / image.width);
        const canvas = new OffscreenCanvas(columns, rows), context = canvas.getContext("2d");
        context.imageSmoothingQuality = "high";
        context.drawImage(image, 0, 0, columns, rows);
        return [image.width, image.height, context.getImageData(0, 0, columns, rows).data];
    };
    const [one, other] = [await fields(drawn), await fields(known)];
    if (one[0] !== other[0] || one[1] !== other[1]) return 1;
    let different = 0;
    for (let at = 0; at < one[2].length; at += 4)
        if (Math.max(...[0, 1, 2].map(part => Math.abs(one[2][at + part] - other[2][at + part]))) >= LEAST) different++;
    return different / (one[2].length / 4);
}""".replace("LEAST", str(LEAST))


@dataclass(frozen=True)
class Picture:
    """One file of `docs`: what the gateway knows, the path, and the height of the window in pixels."""

    name: str
    state: Callable[[], State]
    path: str
    height: int

    def __str__(self) -> str:
        return self.name

    @property
    def file(self) -> Path:
        return ROOT / "docs" / self.name


PICTURES = [
    Picture("status.png", signed_in, "/status", 1130),
    Picture("incident.png", signed_in, f"/status/incidents/{OPEN_INCIDENT}", 1130),
    Picture("events.png", connected, "/status/events?range=3h", 900),
]


async def drawn(picture: Picture) -> bytes:
    async with opened(picture.state(), path=picture.path) as (page, _):
        await page.set_viewport_size({"width": 1280, "height": picture.height})
        return await page.screenshot()


async def difference(page: Page, one: bytes, other: bytes) -> float:
    """The part of two pictures that differs; 1 where their sizes do."""
    encoded = [base64.b64encode(data).decode() for data in (one, other)]
    return float(await page.evaluate(COMPARE, [*encoded, COLUMNS]))


async def blank() -> Page:
    """A page without a policy, which may read the pictures."""
    return await (await shared[0].new_context()).new_page()


@pytest.mark.parametrize("picture", PICTURES, ids=str)
async def test_a_picture_of_the_documents_is_that_of_the_page(picture: Picture) -> None:
    found = await drawn(picture)
    page = await blank()
    part = await difference(page, found, picture.file.read_bytes()) if picture.file.is_file() else 1.0
    await page.context.close()
    if part > MOST_DIFFERENT:
        picture.file.write_bytes(found)
    assert part <= MOST_DIFFERENT, f"docs/{picture.name} was not that of the page, and is drawn again: commit it"


async def test_another_layout_is_seen() -> None:
    picture = PICTURES[0]
    async with opened(picture.state(), path=picture.path, javascript=False) as (shown, _):
        await shown.set_viewport_size({"width": 1280, "height": picture.height})
        before = await shown.screenshot()
        await shown.locator(".why").evaluate("one => one.remove()")
        after = await shown.screenshot()
    page = await blank()
    assert await difference(page, before, before) == 0
    assert await difference(page, before, after) > 2 * MOST_DIFFERENT
    assert await difference(page, before, (ROOT / "docs" / "events.png").read_bytes()) == 1
    await page.context.close()


async def test_every_picture_of_the_documents_is_drawn_here() -> None:
    named = {path.name for path in (ROOT / "docs").glob("*.png")}
    assert named == {picture.name for picture in PICTURES}
