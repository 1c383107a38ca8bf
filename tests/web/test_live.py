"""Pages that follow by themselves, on real sockets: what is sent, how often, to how many, and how it ends."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import re
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import ClientResponse

from tentaculo.model.health import Health
from tentaculo.web import documents, live
from tentaculo.web.live import changes
from tentaculo.web.viewer import Viewer
from tests.support.native_gateway import Gateway, State, running, view
from tests.support.waits import eventually

DEADLINE = 10
STREAM = {"Accept": "text/event-stream"}


class Turns:
    """The waits of the updates: each lasts until the test ends it."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self._open = asyncio.Event()

    async def wait(self, seconds: float) -> None:
        self.asked.append(seconds)
        await self._open.wait()
        self._open.clear()

    def end(self) -> None:
        """End the wait, without one that must follow."""
        self._open.set()

    async def next(self, state: State) -> None:
        """Let the next update happen, a minute later, and wait until it has."""
        state.clock += 60
        count = len(self.asked)
        self._open.set()
        await eventually(lambda: len(self.asked) > count)


@dataclass
class Follower:
    """A browser's side: the lines of the page, and every frame that came."""

    response: ClientResponse
    lines: list[str]
    frames: list[bytes]
    tag: str = ""

    async def frame(self) -> bytes:
        """The next frame; empty at the end of the stream."""
        async with asyncio.timeout(DEADLINE):
            try:
                found = await self.response.content.readuntil(b"\n\n")
            except asyncio.IncompleteReadError as error:
                found = error.partial
        self.frames.append(found)
        return found

    async def change(self) -> str:
        """The page after the next change."""
        head, event, data = (await self.frame()).decode().rstrip("\n").split("\n")
        assert event == "event: page"
        found: list[Any] = []
        for part in json.loads(data.removeprefix("data: ")):
            found += [part] if isinstance(part, str) else self.lines[part[0] : part[0] + part[1]]
        self.lines, self.tag = found, head.removeprefix("id: ")
        return "\n".join(found)


@pytest.fixture
def turns() -> Turns:
    return Turns()


@pytest.fixture
async def gateway(turns: Turns) -> AsyncIterator[Gateway]:
    async with running(State(wait=turns.wait, viewer=Viewer(is_signed_in=True))) as served:
        yield served


@asynccontextmanager
async def following(gateway: Gateway, path: str = "/status", page: str = "", tag: str = "") -> AsyncIterator[Follower]:
    """Follow `path` from the text `page`, whose entity tag is `tag`."""
    headers = STREAM | ({"Last-Event-ID": tag} if tag else {})
    async with gateway.client.get(path, headers=headers) as response:
        assert response.status == 200, await response.text()
        yield Follower(response, page.split("\n"), [], tag)


async def page_of(gateway: Gateway, path: str = "/status") -> tuple[str, str]:
    async with gateway.client.get(path) as response:
        assert response.content_type == "text/html"
        return await response.text(), response.headers["ETag"]


@pytest.mark.parametrize("path", ["/status", "/status?range=7d&filter=er", "/status/services/hermes"])
async def test_a_viewer_without_the_page_gets_it_and_then_what_changes(
    gateway: Gateway, turns: Turns, path: str
) -> None:
    async with following(gateway, path) as follower:
        assert (await follower.change(), follower.tag) == await page_of(gateway, path)
        gateway.state.services = (*gateway.state.services[:2], view("hermes"), *gateway.state.services[3:])
        await turns.next(gateway.state)
        changed = await follower.change()
        assert (changed, follower.tag) == await page_of(gateway, path)
        assert "hermes is down" not in changed


async def test_a_viewer_with_the_page_gets_only_what_has_changed(gateway: Gateway, turns: Turns) -> None:
    page, tag = await page_of(gateway)
    async with following(gateway, page=page, tag=tag) as follower:
        gateway.state.services = (*gateway.state.services[:-1], view("operator", 8011, Health.UP))
        await turns.next(gateway.state)
        changed = await follower.change()
        assert (changed, follower.tag) == await page_of(gateway)
        (frame,) = follower.frames
        assert b"operator" in frame
        assert b"madre" not in frame, "the lines of others are not sent again"
        assert b"<script>" not in frame
        assert len(frame) < len(page) / 10


async def test_a_page_that_is_only_followed_is_not_compressed(
    gateway: Gateway, turns: Turns, monkeypatch: pytest.MonkeyPatch
) -> None:
    compressed: list[int] = []

    def compress(body: bytes, level: int, *, mtime: int) -> bytes:
        compressed.append(level)
        return gzip.compress(body, level, mtime=mtime)

    monkeypatch.setattr(documents, "gzip", SimpleNamespace(compress=compress))
    async with following(gateway) as follower:
        await follower.change()
        gateway.state.services = (*gateway.state.services[:-1], view("operator", 8011, Health.UP))
        await turns.next(gateway.state)
        await follower.change()
        assert compressed == []
        for _ in range(2):
            assert await page_of(gateway) == ("\n".join(follower.lines), follower.tag)
    assert compressed == [6], "once, for all who read it"


async def test_what_does_not_change_is_not_sent(gateway: Gateway, turns: Turns) -> None:
    page, tag = await page_of(gateway)
    async with following(gateway, page=page, tag=tag) as follower:
        for _ in range(3):
            await turns.next(gateway.state)
        gateway.state.services = (*gateway.state.services[:-1], view("operator", 8011, Health.UP))
        await turns.next(gateway.state)
        assert "event: page" in (await follower.frame()).decode()
        assert len(follower.frames) == 1


async def test_one_update_waits_longer_than_a_page_is_kept_and_long_ones_wait_longer(
    gateway: Gateway, turns: Turns, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with following(gateway) as follower:
        await follower.change()
        await eventually(lambda: bool(turns.asked))
        monkeypatch.setattr(live, "time", SimpleNamespace(process_time=iter([0.0, 0.1]).__next__))
        await turns.next(gateway.state)
    assert all(seconds >= live.EVERY > 1 for seconds in turns.asked)
    assert turns.asked[-1] == pytest.approx(0.1 * 19)


async def test_viewers_of_a_page_cost_one_rendering(gateway: Gateway, turns: Turns) -> None:
    page, tag = await page_of(gateway)
    async with AsyncExitStack() as stack:
        followers = [await stack.enter_async_context(following(gateway, page=page, tag=tag)) for _ in range(90)]
        asked = len(gateway.state.asked_for_past)
        gateway.state.services = (*gateway.state.services[:-1], view("operator", 8011, Health.UP))
        await turns.next(gateway.state)
        changed = {await one.change() for one in followers}
        assert len(changed) == 1
        assert len(gateway.state.asked_for_past) == asked + 1
    await eventually(lambda: "0 of" in repr(gateway.state.live))


async def test_the_updates_end_with_the_last_viewer(gateway: Gateway, turns: Turns) -> None:
    for _ in range(2):
        async with following(gateway) as follower:
            await follower.change()
            assert "1 of 1024 viewers, 1 pages" in repr(gateway.state.live)
        await eventually(lambda: "0 of 1024 viewers, 0 pages" in repr(gateway.state.live))
        turns.end()
        await eventually(lambda: not len(gateway.state.tasks))


async def test_a_comment_is_sent_while_nothing_changes(
    gateway: Gateway, turns: Turns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "HEARTBEAT", 0.0)
    page, tag = await page_of(gateway)
    async with following(gateway, page=page, tag=tag) as follower:
        await turns.next(gateway.state)
        assert await follower.frame() == b": \n\n"


async def test_a_version_that_is_not_known_any_more_is_sent_whole(gateway: Gateway, turns: Turns) -> None:
    page, tag = await page_of(gateway)
    async with following(gateway, page=page, tag=tag) as follower:
        for number in range(live._MOST_KNOWN + 1):
            gateway.state.services = (
                *gateway.state.services[:-1],
                view("operator", 8011, Health.DOWN, reason=f"try {number}"),
            )
            await turns.next(gateway.state)
            await follower.change()
        for known in (tag, "", "\u00e9"):
            async with following(gateway, tag=known) as late:
                assert await late.change() == "\n".join(follower.lines)
        async with following(gateway, page="\n".join(follower.lines), tag=follower.tag) as other:
            gateway.state.services = (
                *gateway.state.services[:-1],
                view("operator", 8011, Health.DOWN, reason="at last"),
            )
            await turns.next(gateway.state)
            assert await other.change() == await follower.change()
            assert other.frames == follower.frames[-1:]


@pytest.mark.thorough
async def test_a_viewer_that_does_not_read_gets_the_latest_version_and_holds_little(
    gateway: Gateway, turns: Turns
) -> None:
    state = gateway.state
    state.services = tuple(view(f"s{number}", health=Health.DOWN, reason="r" * 200) for number in range(60))
    loop = asyncio.get_running_loop()
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.setblocking(False)
        await loop.sock_connect(slow, (gateway.host, gateway.port))
        head = "GET /status HTTP/1.0\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n"
        await loop.sock_sendall(slow, head.encode())
        await eventually(lambda: "1 of" in repr(state.live))
        (connection,) = gateway.server.connections
        transport = connection.transport
        assert transport is not None
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        page, tag = await page_of(gateway)
        async with following(gateway, page=page, tag=tag) as fast:
            for number in range(30):
                state.services = tuple(
                    view(f"s{one}", health=Health.DOWN, reason=f"{number} " * 100) for one in range(60)
                )
                await turns.next(state)
                await fast.change()
                assert transport.get_write_buffer_size() < 64 * 1024
            received = b""
            async with asyncio.timeout(DEADLINE):
                while fast.tag.encode() not in received or not received.endswith(b"\n\n"):
                    received += await loop.sock_recv(slow, 65536)
        assert received.count(b"event: page") < 10, "it gets the latest version instead of those between"


@pytest.mark.parametrize("limit", [0, 2])
async def test_beyond_the_limit_the_page_is_read_as_before(gateway: Gateway, limit: int) -> None:
    gateway.state.followers = limit
    async with running(gateway.state) as limited, AsyncExitStack() as stack:
        for _ in range(limit):
            await (await stack.enter_async_context(following(limited))).change()
        async with limited.client.get("/status", headers=STREAM) as response:
            assert (response.status, response.headers["Retry-After"]) == (503, "10")
            assert (await response.json())["error"] == "overloaded"
        await page_of(limited)


async def test_invented_pages_are_followed_up_to_a_number(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "MOST_PAGES", 2)
    async with following(gateway, "/status?filter=1"), following(gateway, "/status?filter=2") as known:
        await known.change()
        async with gateway.client.get("/status?filter=3", headers=STREAM) as response:
            assert response.status == 503
        async with following(gateway, "/status?filter=2") as again, following(gateway) as plain:
            assert await again.change()
            assert await plain.change(), "a page without a query is of another kind"


async def test_a_stop_ends_every_stream_at_once(gateway: Gateway, turns: Turns) -> None:
    async with following(gateway) as one, following(gateway, "/status/services/madre") as other:
        for follower in (one, other):
            await follower.change()
        gateway.state.live.stop()
        for follower in (one, other):
            assert await follower.frame() == b"event: end\ndata: {}\n\n"
            assert await follower.frame() == b""
        async with gateway.client.get("/status", headers=STREAM) as response:
            assert response.status == 503


async def test_a_stop_ends_the_stream_of_a_viewer_that_does_not_read(gateway: Gateway, turns: Turns) -> None:
    loop = asyncio.get_running_loop()
    gateway.state.services = tuple(view(f"s{number}", health=Health.DOWN, reason="r" * 200) for number in range(300))
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.setblocking(False)
        await loop.sock_connect(slow, (gateway.host, gateway.port))
        await loop.sock_sendall(slow, b"GET /status HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n")
        await eventually(lambda: "1 of" in repr(gateway.state.live))
        gateway.state.live.stop()
        await eventually(lambda: "0 of" in repr(gateway.state.live))


@pytest.mark.thorough
async def test_a_page_that_cannot_be_rendered_is_not_shown_as_unchanged(gateway: Gateway, turns: Turns) -> None:
    async with following(gateway) as follower:
        await follower.change()
        gateway.state.services = (None,)  # type: ignore[assignment]
        await turns.next(gateway.state)
        assert (await follower.frame()).startswith(b"event: end")
    async with gateway.client.get("/status", headers=STREAM) as response:
        assert response.status == 500


@pytest.mark.parametrize(
    ("accept", "is_stream"),
    [
        ("text/event-stream", True),
        ("text/html;q=0.5, Text/Event-Stream ; q=1", True),
        ("*/*", False),
        ("text/*", False),
        ("text/html,application/xhtml+xml", False),
        ("text/event-stream;q=0", False),
        ("text/html, text/event-stream;q=0.9", False),
        ("text/event-stream;q=0.5, */*;q=0.9", False),
        ("text/event-stream, */*", True),
    ],
)
async def test_only_who_names_event_streams_gets_one(gateway: Gateway, accept: str, is_stream: bool) -> None:
    async with gateway.client.get("/status", headers={"Accept": accept}) as response:
        assert (response.content_type == "text/event-stream") is is_stream
        if is_stream:
            assert response.headers["X-Accel-Buffering"] == "no"
            assert response.headers["Cache-Control"] == "no-store, no-transform"
            assert "Content-Encoding" not in response.headers


async def test_the_script_and_the_style_are_small(gateway: Gateway) -> None:
    text, _ = await page_of(gateway)
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    styles = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    assert 0 < len(script.encode()) < 10 * 1024
    assert 0 < len("".join(styles).encode()) < 15 * 1024


async def test_a_head_request_is_about_the_page(gateway: Gateway) -> None:
    async with gateway.client.head("/status", headers=STREAM) as response:
        assert response.content_type == "text/html"


async def test_a_wrong_parameter_is_refused_before_the_stream(gateway: Gateway) -> None:
    async with gateway.client.get("/status?range=2h", headers=STREAM) as response:
        assert response.status == 400


@pytest.mark.parametrize("seed", range(30))
def test_changes_lead_from_any_lines_to_any_others(seed: int) -> None:
    dice = random.Random(seed)
    old = [dice.choice("abcdefgh</>") for _ in range(dice.randrange(30))]
    new = [
        dice.choice([*old, "x", "y"]) if dice.random() < 0.5 or not old else old[place % len(old)]
        for place in range(30)
    ]
    found: list[str] = []
    for part in changes(old, new):
        found += [part] if isinstance(part, str) else old[part[0] : part[0] + part[1]]
    assert found == new


def test_a_changed_line_costs_that_line_and_two_stretches() -> None:
    old = [text for number in range(100) for text in ("<li>", f"<b>{number}</b>", "</li>")]
    new = [*old[:151], "<b>other</b>", *old[152:]]
    assert list(changes(old, new)) == [[0, 151], "<b>other</b>", [152, 148]]
    assert list(changes(old, [*old[:150], *old[153:]])) == [[0, 151], [154, 146]]
