"""Changes whose client leaves before the response: each is made to its end, recorded, and made once."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tentaculo.gateway.incident_repository import IncidentRepository
from tentaculo.tasks import TaskGroup
from tests.conftest import TOKEN, Live, Start
from tests.gateway.test_actions import broken, incident_of, read, signed_in
from tests.gateway.test_sign_in import where
from tests.support.waits import eventually
from tests.support.wire import dial

FORM = b"Content-Type: application/x-www-form-urlencoded\r\nOrigin: http://localhost\r\n"
JSON = f"Content-Type: application/json\r\nX-VX11-Token: {TOKEN}\r\n".encode()


class Held:
    """Holds the response of the next change back, once it is stored."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
        self.is_stored, self.may_end = asyncio.Event(), asyncio.Event()
        for name in names:
            monkeypatch.setattr(IncidentRepository, name, self._slow(getattr(IncidentRepository, name)))

    def _slow(self, change: Any) -> Any:
        async def held(repository: IncidentRepository, *what: Any) -> Any:
            made = await change(repository, *what)
            self.is_stored.set()
            await self.may_end.wait()
            return made

        return held

    async def leave(self, live: Live, method: str, path: str, lines: bytes, body: bytes) -> None:
        """Send a request, and leave when its change is stored. Returns when the gateway has noticed that."""
        async with dial(live.port) as wire:
            head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n".encode()
            await wire.send(head + lines + b"\r\n" + body)
            await self.is_stored.wait()
            wire.reset()
        await eventually(lambda: 499 in [one.status for one in live.records], "the end of the request")


async def actions_of(live: Live, number: int = 1) -> list[str]:
    """What the log of events says that callers have done, once it says so many."""
    async with asyncio.timeout(20):
        while len(acted := (await read(live, "/events?type=gateway.caller.acted"))["events"]) < number:
            await asyncio.sleep(0.02)
    return [one["payload"]["action"] for one in acted]


@pytest.mark.thorough
async def test_a_form_that_is_sent_again_because_of_a_second_click_is_done_once(
    start: Start, file: Path, refusing_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = await broken(start, file, refusing_port)
    number = str((await incident_of(live))["id"])
    browser, form = await signed_in(live)
    held = Held(monkeypatch, "add_note")
    note = {"form": form, "action": "note", "incident": number, "text": "disk"}
    cookie = f"Cookie: {'; '.join(f'{name}={value}' for name, value in browser.cookies.items())}\r\n".encode()
    # With the second click a browser closes the connection of the first one.
    await held.leave(live, "POST", "/status/actions", FORM + cookie, urlencode(note).encode())
    again = TaskGroup("test").start(browser.send("/status/actions", **note), "second click")
    held.may_end.set()
    assert where(await again) == (303, "/status")
    assert [one["text"] for one in (await read(live, f"/vx11/incidents/{number}"))["notes"]] == ["disk"]
    assert await actions_of(live) == ["note"]


@pytest.mark.thorough
@pytest.mark.parametrize("action", ["note", "acknowledge", "maintain", "end_maintenance"])
async def test_who_leaves_after_a_change_is_recorded(
    start: Start, file: Path, refusing_port: int, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    live = await broken(start, file, refusing_port)
    incident = f"/vx11/incidents/{(await incident_of(live))['id']}"
    plan = b'{"services": ["mcp"], "reason": "a new disk", "minutes": 60}'
    if action == "end_maintenance":
        async with dial(live.port) as wire:
            await wire.send(b"POST /vx11/maintenance HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n" % len(plan))
            await wire.send(JSON + b"\r\n" + plan)
            assert (await wire.response("POST")).status == 201
    method, path, body = {
        "note": ("POST", f"{incident}/notes", b'{"text": "disk"}'),
        "acknowledge": ("POST", f"{incident}/acknowledgements", b'{"author": "ana"}'),
        "maintain": ("POST", "/vx11/maintenance", plan),
        "end_maintenance": ("DELETE", "/vx11/maintenance/1", b""),
    }[action]
    held = Held(monkeypatch, "add_note", "acknowledge", "add_window", "end_window")
    await held.leave(live, method, path, JSON, body)
    held.may_end.set()
    acted = await actions_of(live, 2 if action == "end_maintenance" else 1)
    assert sorted(acted) == sorted(["maintain", action] if action == "end_maintenance" else [action])
