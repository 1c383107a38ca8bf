"""What a person who has signed in does on the pages, by plain forms on real sockets."""

from __future__ import annotations

import asyncio
import json
import re
from datetime import UTC, datetime
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from tentaculo.config.accepted_tokens import TokenSettings
from tentaculo.gateway.incident_repository import IncidentRepository
from tentaculo.security.tokens import hash_token, name_of
from tests.conftest import TOKEN, Live, Start
from tests.gateway.test_sign_in import HTML, Browser, where
from tests.support.databases import sqlite
from tests.support.runtime_tables import opened
from tests.support.wire import Response

WHO = name_of(TokenSettings(hash=hash_token(TOKEN)))
"""The token of these tests has no name of its own."""

AUTH = f"X-VX11-Token: {TOKEN}".encode()


async def broken(start: Start, file: Path, port: int) -> Live:
    """A gateway whose service hermes is down."""
    probe = {"interval": 0.05, "recheck": 0.05, "failures": 1}
    fleet: dict[str, dict[str, Any]] = {
        name: {"url": f"http://127.0.0.1:{port}", "probe": probe} for name in ("hermes", "mcp")
    }
    fleet["mcp"]["enabled"] = False
    fleet["hermes"]["aliases"] = ["herald"]
    database = {"url": sqlite(file), "auto_upgrade": False}
    return await start(fleet, probes=True, database=database, page={"zone": "Asia/Kolkata"})


async def read(live: Live, path: str) -> Any:
    return json.loads((await Browser(live.port).ask(path, AUTH)).body)


async def incident_of(live: Live) -> dict[str, Any]:
    async with asyncio.timeout(20):
        while not (found := (await read(live, "/vx11/incidents?open=true"))["incidents"]):
            await asyncio.sleep(0.02)
    (incident,) = found
    return dict(incident)


async def signed_in(live: Live) -> tuple[Browser, str]:
    browser = Browser(live.port)
    await browser.sign_in()
    return browser, await browser.form_token()


async def test_notes_and_acknowledgements(start: Start, file: Path, refusing_port: int) -> None:
    live = await broken(start, file, refusing_port)
    number = str((await incident_of(live))["id"])
    browser, form = await signed_in(live)
    page = f"/status/incidents/{number}"
    done = await browser.send(
        "/status/actions", form=form, action="note", incident=number, text=" <b>disk</b>\r\nfull ", next=page
    )
    assert where(done) == (303, page)
    done = await browser.send("/status/actions", form=form, action="acknowledge", incident=number, note="", next=page)
    assert where(done) == (303, page)
    found = await read(live, f"/vx11/incidents/{number}")
    assert [(one["author"], one["text"]) for one in found["notes"]] == [(WHO, "<b>disk</b>\nfull")]
    assert found["acknowledged"]["author"] == WHO
    shown = (await browser.ask(page, HTML)).body.decode()
    assert "&lt;b&gt;disk&lt;/b&gt;" in shown
    assert f'By <bdi lang="">{WHO}</bdi> at' in shown
    public = (await Browser(live.port).ask(page, HTML)).body.decode()
    assert "disk" not in public
    assert "<form" not in public


async def test_muting_holds_over_a_restart_and_everywhere(start: Start, file: Path, refusing_port: int) -> None:
    live = await broken(start, file, refusing_port)
    number = str((await incident_of(live))["id"])
    browser, form = await signed_in(live)
    before = datetime.now(UTC)
    await browser.send("/status/actions", form=form, action="mute", incident=number, until="60")
    muted = (await read(live, f"/vx11/incidents/{number}"))["muted"]
    assert 3590 < (datetime.fromisoformat(muted["until"]) - before).total_seconds() < 3660
    shown = (await browser.ask(f"/status/incidents/{number}", HTML)).body.decode()
    assert "Alerts are muted until " in shown
    assert "Send alerts again" in shown
    again = await broken(start, file, refusing_port)
    (restored,) = (await read(again, "/vx11/incidents?open=true"))["incidents"]
    assert restored["muted"] == muted
    await browser.send("/status/actions", form=form, action="mute", incident=number, until="end")
    assert (
        "Alerts are muted until the incident ends." in (await browser.ask(f"/status/incidents/{number}")).body.decode()
    )
    await browser.send("/status/actions", form=form, action="mute", incident=number, until="0")
    assert (await read(live, f"/vx11/incidents/{number}"))["muted"]["until"] <= datetime.now(UTC).isoformat()
    shown = (await browser.ask(f"/status/incidents/{number}", HTML)).body.decode()
    assert "ended the mute of hermes" in shown
    assert "Send alerts again" not in shown
    public = (await Browser(live.port).ask(f"/status/incidents/{number}", HTML)).body.decode()
    assert "mute" not in public

    async def authors() -> list[str]:
        events = await read(live, "/events?type=gateway.incident.muted")
        return [one["payload"]["author"] for one in events["events"]]

    async with asyncio.timeout(20):
        while len(found := await authors()) < 3:
            await asyncio.sleep(0.05)
    assert found == [WHO] * 3
    acted = (await read(live, "/events?type=gateway.caller.acted"))["events"]
    assert {(one["payload"]["caller"], one["payload"]["how"], one["payload"]["action"]) for one in acted} == {
        (WHO, "by_session", "mute")
    }
    assert {one["payload"]["incident"] for one in acted} == {int(number)}


async def test_a_form_that_is_sent_twice_is_done_once(start: Start, file: Path, refusing_port: int) -> None:
    live = await broken(start, file, refusing_port)
    number = str((await incident_of(live))["id"])
    browser, form = await signed_in(live)
    note = {"form": form, "action": "note", "incident": number}
    plan = {"form": form, "action": "maintain", "services": "hermes", "minutes": "60", "starts": "2027-06-01T05:30"}
    forms = [
        {**fields, name: words} for fields, name in ((note, "text"), (plan, "reason")) for words in ("disk", "disks")
    ]
    for fields in forms:
        sent = [browser.send("/status/actions", **fields) for _ in range(3)]
        assert {where(done) for done in await asyncio.gather(*sent)} == {(303, "/status")}
    found = await read(live, f"/vx11/incidents/{number}")
    assert sorted(one["text"] for one in found["notes"]) == ["disk", "disks"]
    planned = (await read(live, "/vx11/maintenance"))["maintenance"]
    assert sorted(one["reason"] for one in planned) == ["disk", "disks"]
    # What was undone in between is done again.
    for until in ("end", "0", "end"):
        await browser.send("/status/actions", form=form, action="mute", incident=number, until=until)
    assert (await read(live, f"/vx11/incidents/{number}"))["muted"]["until"] is None
    # Another person may write the same.
    other, other_form = await signed_in(live)
    await other.send("/status/actions", **{**note, "form": other_form, "text": "disk"})
    assert len((await read(live, f"/vx11/incidents/{number}"))["notes"]) == 3


async def test_nobody_waits_for_the_form_of_another(
    start: Start, file: Path, refusing_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, may_end = asyncio.Event(), asyncio.Event()
    add_note = IncidentRepository.add_note

    async def slowly(self: IncidentRepository, number: int, author: str, text: str) -> object:
        if text == "slow":
            began.set()
            await may_end.wait()
        return await add_note(self, number, author, text)

    monkeypatch.setattr(IncidentRepository, "add_note", slowly)
    live = await broken(start, file, refusing_port)
    note = {"action": "note", "incident": str((await incident_of(live))["id"])}
    (one, one_form), (other, other_form) = await signed_in(live), await signed_in(live)
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(one.send("/status/actions", form=one_form, **note, text="slow"))
        await began.wait()
        done = await other.send("/status/actions", form=other_form, **note, text="quick")
        assert (where(done), waiting.done()) == ((303, "/status"), False)
        may_end.set()
    assert where(waiting.result()) == (303, "/status")


async def test_planning_maintenance(start: Start, file: Path, refusing_port: int) -> None:
    live = await broken(start, file, refusing_port)
    browser, form = await signed_in(live)
    plan = {"form": form, "action": "maintain", "reason": "a new disk", "minutes": "60"}
    done = await browser.send("/status/actions", **plan, services="herald", next="/status/services/hermes")
    assert where(done) == (303, "/status/services/hermes")
    done = await browser.send("/status/actions", **plan, services="*", starts="2027-06-01T05:30")
    assert where(done) == (303, "/status")
    # Where there are many services, their names are typed.
    await browser.send("/status/actions", **plan, services="herald,hermes , mcp", starts="2027-07-01T05:30")
    first, second, third = (await read(live, "/vx11/maintenance"))["maintenance"]
    assert third["services"] == ["hermes", "mcp"]
    assert (first["services"], first["author"], first["reason"]) == (["hermes"], WHO, "a new disk")
    assert second["starts_at"] == "2027-06-01T00:00:00Z", "the time was one of the page's zone"
    assert second["ends_at"] == "2027-06-01T01:00:00Z"


async def test_maintenance_is_changed_and_ended(start: Start, file: Path, refusing_port: int) -> None:
    live = await broken(start, file, refusing_port)
    browser, form = await signed_in(live)
    plan = {"form": form, "action": "maintain", "reason": "a new disk", "minutes": "60", "services": "hermes"}
    await browser.send("/status/actions", **plan)
    await browser.send("/status/actions", **plan, starts="2027-06-01T05:30")
    first, second = (await read(live, "/vx11/maintenance"))["maintenance"]
    shown = (await browser.ask("/status", HTML)).body.decode()
    assert shown.count('value="change_maintenance"') == shown.count('value="end_maintenance"') == 2
    assert 'name="starts" value="2027-06-01T05:30"' in shown, (
        "in the zone of the page; one that holds keeps its beginning"
    )
    change = {"form": form, "action": "change_maintenance", "reason": "two disks", "ends": "2027-06-02T05:30"}
    assert where(await browser.send("/status/actions", **change, window=str(first["id"]))) == (303, "/status")
    later = {**change, "starts": "2027-06-01T06:30", "window": str(second["id"])}
    assert where(await browser.send("/status/actions", **later)) == (303, "/status")
    one, other = (await read(live, "/vx11/maintenance"))["maintenance"]
    assert one == {**first, "reason": "two disks", "ends_at": "2027-06-02T00:00:00Z"}
    assert (other["starts_at"], other["ends_at"]) == ("2027-06-01T01:00:00Z", "2027-06-02T00:00:00Z")
    for wrong, status in (({"ends": "2026-01-01T00:00"}, 400), ({"ends": "soon"}, 400), ({"window": "99"}, 404)):
        assert (await browser.send("/status/actions", **{**later, **wrong})).status == status
    for number in (first["id"], second["id"]):
        done = await browser.send("/status/actions", form=form, action="end_maintenance", window=str(number))
        assert where(done) == (303, "/status")
    assert (await read(live, "/vx11/maintenance"))["maintenance"] == []
    again = await browser.send("/status/actions", form=form, action="end_maintenance", window=str(second["id"]))
    assert where(again) == (303, "/status"), "the same click"
    again = await browser.send("/status/actions", form=form, action="end_maintenance", window=str(first["id"]))
    assert again.status == 404
    public = (await Browser(live.port).ask("/status", HTML)).body.decode()
    assert "end_maintenance" not in public


def confirmed(page: Response) -> str:
    """What a page says of what was just done."""
    found = re.search(r'<p class="done" role="status">(.*?)</p>', page.body.decode())
    return "" if found is None else unescape(re.sub(r"<[^>]+>", "", found[1]))


@pytest.mark.thorough
async def test_a_page_says_once_what_was_done(start: Start, file: Path, refusing_port: int) -> None:
    live = await broken(start, file, refusing_port)
    number = str((await incident_of(live))["id"])
    browser, form = await signed_in(live)

    async def done(**fields: str) -> str:
        """What the page says after a form, and that it says nothing when it is opened again."""
        sent = await browser.send("/status/actions", form=form, next="/status", **fields)
        (cookie,) = browser.set_cookie
        assert re.fullmatch(r"tentaculo_done=[a-z_.0-9]+; HttpOnly; Max-Age=60; Path=/status; SameSite=Strict", cookie)
        assert where(sent) == (303, "/status")
        said = confirmed(await browser.ask("/status", HTML))
        assert "tentaculo_done" not in browser.cookies, "the page removes it"
        assert confirmed(await browser.ask("/status", HTML)) == ""
        return said

    plan = {"action": "maintain", "reason": "a new disk", "minutes": "60", "services": "mcp"}
    assert await done(action="acknowledge", incident=number, note="") == "Acknowledged."
    assert await done(action="note", incident=number, text="x") == "The note was added."
    assert await done(action="mute", incident=number, until="end") == "Alerts are muted until the incident ends."
    assert re.fullmatch(
        r"Alerts are muted until (\d+ \w+, )?\d\d:\d\d\.", await done(action="mute", incident=number, until="60")
    )
    assert await done(action="mute", incident=number, until="0") == "Alerts are sent again."
    assert re.fullmatch(r"Maintenance has begun, until (\d+ \w+, )?\d\d:\d\d\.", await done(**plan))
    assert await done(**plan, starts="2027-06-01T05:30") == "Maintenance is planned from 1 Jun, 05:30.", (
        "in the zone of the page"
    )
    first, second = (await read(live, "/vx11/maintenance"))["maintenance"]
    change = {"action": "change_maintenance", "reason": "two disks", "ends": "2027-06-02T05:30"}
    assert await done(**change, window=str(first["id"])) == "The maintenance was changed."
    assert await done(action="end_maintenance", window=str(first["id"])) == "The maintenance was ended."
    assert await done(action="end_maintenance", window=str(second["id"])) == "The planned maintenance was cancelled."


async def test_nobody_else_can_have_a_page_say_it(start: Start, file: Path, refusing_port: int) -> None:
    live = await broken(start, file, refusing_port)
    number = str((await incident_of(live))["id"])
    browser, form = await signed_in(live)
    other, _ = await signed_in(live)
    sent = {"action": "acknowledge", "incident": number, "note": "", "form": form}
    await browser.send("/status/actions", **sent)
    own = browser.cookies["tentaculo_done"]
    for wrong in (own.replace("acknowledged", "ended"), own.replace(".0.", ".9."), own[:-1] + "-", "a.0." + "0" * 32):
        browser.cookies["tentaculo_done"] = wrong
        assert confirmed(await browser.ask("/status", HTML)) == ""
    for stranger in (other, Browser(live.port)):
        stranger.cookies["tentaculo_done"] = own
        assert confirmed(await stranger.ask("/status", HTML)) == ""
    browser.cookies["tentaculo_done"] = own
    spanish = await browser.ask("/status?lang=es", HTML, b"Accept-Language: es")
    assert confirmed(spanish) == "Confirmado."


@pytest.mark.parametrize("action", ["note", "acknowledge"])
async def test_what_was_written_is_not_lost_with_the_sign_in(start: Start, file: Path, action: str) -> None:
    live = await start({}, database={"url": sqlite(file), "auto_upgrade": False})
    browser, form = await signed_in(live)
    await browser.sign_out()
    written = {"note": "text", "acknowledge": "note"}[action]
    sent = {"form": form, "action": action, "incident": "7", "next": "/status/incidents/7"}
    late = await browser.send("/status/actions", **sent, **{written: 'a <b>"full"</b> disk\r\nof hermes'})
    assert (late.status, late.get("cache-control")) == (403, "no-store")
    body = late.body.decode()
    assert "The sign-in has ended, so that nothing was saved." in body
    (shown,) = re.findall(r"<textarea[^>]* readonly>\n(.*?)</textarea>", body, re.DOTALL)
    assert unescape(shown) == 'a <b>"full"</b> disk\r\nof hermes'
    assert "<b>" not in shown
    assert 'name="next" value="/status/incidents/7"' in body
    assert "disk" not in (await browser.ask("/status/sign-in", HTML)).body.decode(), "it is of this response alone"
    assert where(await browser.send("/status/actions", **sent, **{written: " "})) == (
        *(303, "/status/sign-in?next=/status/incidents/7"),
    )


@pytest.mark.parametrize("text", ["\N{CJK UNIFIED IDEOGRAPH-6587}" * 4000, "\N{GRINNING FACE}" * 4000])
async def test_a_note_has_its_whole_length_in_any_script(
    start: Start, file: Path, refusing_port: int, text: str
) -> None:
    live = await broken(start, file, refusing_port)
    number = str((await incident_of(live))["id"])
    browser, form = await signed_in(live)
    done = await browser.send("/status/actions", form=form, action="note", incident=number, text=text)
    assert where(done) == (303, "/status")
    (note,) = (await read(live, f"/vx11/incidents/{number}"))["notes"]
    assert note["text"] == text.replace("\r\n", "\n").strip()


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"action": "note", "text": ""}, 400),
        ({"action": "note", "text": "x" * 5000}, 400),
        ({"action": "note", "text": "x", "incident": "1"}, 404),
        ({"action": "note", "text": "x", "incident": "1; DROP"}, 404),
        ({"action": "note", "text": "x", "incident": "9" * 40}, 404),
        ({"action": "mute", "until": "soon"}, 400),
        ({"action": "mute", "until": "999999"}, 400),
        ({"action": "mute", "until": "-1"}, 400),
        ({"action": "maintain", "services": "nobody", "reason": "x", "minutes": "60"}, 400),
        ({"action": "maintain", "services": "hermes, nobody", "reason": "x", "minutes": "60"}, 400),
        ({"action": "maintain", "services": " , ", "reason": "x", "minutes": "60"}, 400),
        ({"action": "maintain", "reason": "x", "minutes": "60"}, 400),
        ({"action": "maintain", "services": "hermes", "reason": "", "minutes": "60"}, 400),
        ({"action": "maintain", "services": "hermes", "reason": "x", "minutes": "0"}, 400),
        ({"action": "maintain", "services": "hermes", "reason": "x", "minutes": "9", "starts": "tomorrow"}, 400),
        ({"action": "delete"}, 400),
        ({}, 400),
    ],
)
async def test_a_form_that_does_not_fit_changes_nothing(
    start: Start, file: Path, fields: dict[str, str], status: int
) -> None:
    live = await start({"hermes": {"url": "http://127.0.0.1:1"}}, database={"url": sqlite(file), "auto_upgrade": False})
    browser, form = await signed_in(live)
    answer = await browser.send("/status/actions", **{"incident": "7", "form": form, **fields})
    assert answer.status == status
    assert b"<!doctype html>" in answer.body[:20].lower(), "a person reads why"
    assert (await read(live, "/vx11/maintenance"))["maintenance"] == []


async def test_nobody_acts_without_a_session_its_form_and_the_own_origin(start: Start, file: Path) -> None:
    live = await start({"hermes": {"url": "http://127.0.0.1:1"}}, database={"url": sqlite(file), "auto_upgrade": False})
    plan = {"action": "maintain", "services": "*", "reason": "x", "minutes": "60"}
    stranger = await Browser(live.port).send("/status/actions", **plan, form="x", next="/status/services/hermes")
    assert where(stranger) == (303, "/status/sign-in?next=/status/services/hermes")
    by_token = Browser(live.port, extra=(AUTH,))
    assert (await by_token.send("/status/actions", **plan)).status == 303, (
        "a token is for the API, which has its own calls"
    )
    browser, form = await signed_in(live)
    assert (await browser.send("/status/actions", **plan)).status == 403
    foreign = await browser.send("/status/actions", **plan, form="a" * 32)
    assert foreign.status == 403
    assert b"The form is of another sign-in." in foreign.body
    assert b"token" not in foreign.body, "nothing is wrong with the token"
    browser.origin = "http://evil.example"
    assert (await browser.send("/status/actions", **plan, form=form)).status == 403
    assert (await read(live, "/vx11/maintenance"))["maintenance"] == []


async def test_while_the_database_is_away_the_form_says_so(start: Start, file: Path, refusing_port: int) -> None:
    live = await broken(start, file, refusing_port)
    number = str((await incident_of(live))["id"])
    browser, form = await signed_in(live)
    assert (await browser.ask("/status", HTML)).status == 200
    with opened(sqlite(file)) as connection:
        connection.execute(text("ALTER TABLE tentaculo_incident_notes RENAME TO away"))
    answer = await browser.send("/status/actions", form=form, action="note", incident=number, text="x")
    assert answer.status == 503
