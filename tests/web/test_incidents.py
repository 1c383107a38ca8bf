"""Incidents and maintenance as JSON and on the page, as they come over HTTP."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentaculo.model.health import Health
from tentaculo.model.history import Tally
from tentaculo.model.incident import LONGEST, Incident, InvalidInputError, Note, check_window
from tentaculo.model.precursor import Precursor, ServicePrecursors
from tentaculo.model.reason import because
from tentaculo.model.service_rates import RecentRates
from tests.support.native_gateway import NOW, TOKEN, Gateway

HEADERS = {"X-VX11-Token": TOKEN}
MINUTE = timedelta(minutes=1)
HERMES = Incident(
    1773500966000,
    "hermes",
    ("hermes", "operator"),
    Health.DOWN,
    "connection refused",
    NOW - 25 * MINUTE,
    NOW - MINUTE,
    peak_error_rate=0.964,
    reopened=2,
    cause=because("connection_refused"),
)
MCP = replace(
    HERMES,
    id=1773500000000,
    root="mcp",
    services=("mcp",),
    ended_at=NOW - 20 * MINUTE,
    ending="It is healthy again: answered 200 in 4 ms",
    peak_error_rate=None,
    reopened=0,
    cause=None,
)
NOTE = Note(1, HERMES.id, NOW - 2 * MINUTE, "ana", "The disk is full.")


async def get(gateway: Gateway, path: str, status: int = 200) -> Any:
    async with gateway.client.get(path, headers=HEADERS) as answer:
        assert answer.status == status, await answer.text()
        return await answer.json(content_type=None)


async def send(gateway: Gateway, method: str, path: str, body: Any = None, status: int = 201, **headers: str) -> Any:
    given = {**HEADERS, "Content-Type": "application/json", **headers}
    data = body if isinstance(body, bytes) else json.dumps(body)
    async with gateway.client.request(method, path, data=data, headers=given) as answer:
        assert answer.status == status, await answer.text()
        return await answer.json(content_type=None)


async def test_all_of_it_asks_for_the_token(gateway: Gateway) -> None:
    for method, path in (
        ("GET", "/vx11/incidents"),
        ("GET", "/vx11/incidents/1"),
        ("POST", "/vx11/incidents/1/notes"),
        ("POST", "/vx11/incidents/1/acknowledgements"),
        ("GET", "/tentaculo/alerts"),
        ("GET", "/vx11/maintenance"),
        ("POST", "/vx11/maintenance"),
        ("DELETE", "/vx11/maintenance/1"),
    ):
        async with gateway.client.request(method, path) as answer:
            assert answer.status == 401, path


async def test_a_list_of_incidents(gateway: Gateway) -> None:
    gateway.state.books.incidents = [HERMES, MCP]
    found = await get(gateway, "/vx11/incidents")
    assert (found["next"], found["problem"]) == (None, None)
    assert found["incidents"][0] == {
        "id": 1773500966000,
        "open": True,
        "root": "hermes",
        "services": ["hermes", "operator"],
        "severity": "down",
        "reason": "connection refused",
        "reason_code": "connection_refused",
        "reason_values": {},
        "started_at": "2026-03-14T14:44:26Z",
        "seen_at": "2026-03-14T15:08:26Z",
        "ended_at": None,
        "ending": None,
        "ending_code": None,
        "ending_values": None,
        "peak_error_rate": 0.964,
        "reopened": 2,
        "reopened_at": None,
        "failed_requests": None,
        "counted_until": None,
        "part_of": None,
        "muted": None,
        "acknowledged": None,
        "alerted_at": None,
        "notified": [],
    }
    assert found["incidents"][1]["ending"] == "It is healthy again: answered 200 in 4 ms"
    await get(gateway, "/vx11/incidents?open=true&limit=1&before=1773500966001")
    assert gateway.state.books.asked == [
        {"limit": 50, "before": None, "is_open": None},
        {"limit": 1, "before": 1773500966001, "is_open": True},
    ]
    assert (await get(gateway, "/vx11/incidents?open=false&limit=1"))["next"] == HERMES.id


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("open=yes", "open must be true or false."),
        ("limit=0", "limit must be a number from 1 to 200."),
        ("limit=201", "limit must be a number from 1 to 200."),
        ("limit=-1", "limit must be a number from 1 to 200."),
        ("limit=%D9%A3", "limit must be a number from 1 to 200."),
        ("before=" + "9" * 400, "before must be a whole number from 1 to 9007199254740992."),
        ("opne=true", '"opne" is no parameter of this path; it takes open, limit, before.'),
        ("open=true&open=false", "open may be there only once."),
    ],
)
async def test_a_query_that_cannot_be(gateway: Gateway, query: str, detail: str) -> None:
    assert (await get(gateway, f"/vx11/incidents?{query}", 400))["detail"] == detail


async def test_one_incident_and_its_notes(gateway: Gateway) -> None:
    gateway.state.books.incidents = [HERMES]
    path = f"/vx11/incidents/{HERMES.id}"
    made = await send(gateway, "POST", f"{path}/notes", {"text": " made room\nand more ", "author": "ana"})
    assert made == {"id": 1, "at": "2026-03-14T15:09:26Z", "author": "ana", "text": "made room\nand more"}
    await send(gateway, "POST", f"{path}/notes", {"text": "x"})
    found = await get(gateway, path)
    assert [(one["author"], one["text"]) for one in found["notes"]] == [("ana", "made room\nand more"), (None, "x")]
    gateway.state.books.problem = "The database file x.db is read-only."
    assert (await send(gateway, "POST", f"{path}/notes", {"text": "x"}, 503))["error"] == "store_unavailable"


@pytest.mark.parametrize("number", ["7", "0", "-1", "one", "9" * 400, "%D9%A3", "1773500966000x"])
async def test_one_that_is_not_there(gateway: Gateway, number: str) -> None:
    gateway.state.books.incidents = [HERMES]
    await get(gateway, f"/vx11/incidents/{number}", 404)
    await send(gateway, "POST", f"/vx11/incidents/{number}/notes", {"text": "x"}, 404)
    await send(gateway, "DELETE", f"/vx11/maintenance/{number}", status=404)


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"", "The body does not fit: it is not JSON."),
        (b"{", "The body does not fit: it is not JSON."),
        (b'{"text": "\xff"}', "The body does not fit: it is not JSON."),
        (b"[" * 50_000, "The body does not fit: Expected `object`, got `array`."),
        (b"[]", "The body does not fit: Expected `object`, got `array`."),
        (b"{}", "The body does not fit: Object missing required field `text`."),
        (b'{"text": 1}', "The body does not fit: Expected `str`, got `int` - at `text`."),
        (b'{"text": "x", "txet": 1}', "The body does not fit: Object contains unknown field `txet`."),
        (b'{"text": "  "}', "text must be 1 to 4000 printable characters; line ends are fine."),
        (b'{"text": "\\u001b[2J"}', "text must be 1 to 4000 printable characters; line ends are fine."),
        (json.dumps({"text": "x" * 4001}).encode(), "text must be 1 to 4000 printable characters; line ends are fine."),
        (b'{"text": "x", "author": "a\\nb"}', "author must be a line of 0 to 80 printable characters."),
    ],
)
async def test_a_note_that_cannot_be(gateway: Gateway, body: bytes, detail: str) -> None:
    gateway.state.books.incidents = [HERMES]
    answer = await send(gateway, "POST", f"/vx11/incidents/{HERMES.id}/notes", body, 400)
    assert answer["detail"] == detail


async def test_a_body_must_say_that_it_is_json_and_be_small(gateway: Gateway) -> None:
    gateway.state.books.incidents = [HERMES]
    path = f"/vx11/incidents/{HERMES.id}/notes"
    for media in ("text/plain", "application/x-www-form-urlencoded", "application/json-seq"):
        await send(gateway, "POST", path, {"text": "x"}, 415, **{"Content-Type": media})
    await send(gateway, "POST", path, {"text": "x"}, 415, **{"Content-Encoding": "gzip"})
    await send(gateway, "POST", path, {"text": "x" * 70_000}, 413)
    await send(gateway, "POST", path, {"text": "x"}, 201, **{"Content-Type": "application/json; charset=utf-8"})


async def test_maintenance_is_planned_and_ended(gateway: Gateway) -> None:
    body = {"services": ["herald"], "minutes": 90, "reason": "a new disk", "author": "ana"}
    assert await send(gateway, "POST", "/vx11/maintenance", body) == {
        "id": 1,
        "services": ["hermes"],
        "reason": "a new disk",
        "starts_at": "2026-03-14T15:09:26Z",
        "ends_at": "2026-03-14T16:39:26Z",
        "holds": True,
        "author": "ana",
        "source": "database",
    }
    later = {"starts_at": "2026-03-20T02:00:00+01:00", "ends_at": "2026-03-20T04:00:00Z", "reason": "x"}
    made = await send(gateway, "POST", "/vx11/maintenance", {"services": ["*"], **later})
    assert (made["services"], made["starts_at"], made["holds"]) == (["*"], "2026-03-20T01:00:00Z", False)
    listed = await get(gateway, "/vx11/maintenance")
    assert [one["id"] for one in listed["maintenance"]] == [1, 2]
    assert (await send(gateway, "DELETE", "/vx11/maintenance/1", status=200))["holds"] is False


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({"services": []}, 'services must name services; "*" is every one.'),
        ({"services": ["nobody"]}, 'services has "nobody", which is no service.'),
        ({"services": "*"}, "The body does not fit: Expected `array`, got `str` - at `services`."),
        ({"minutes": 0}, "minutes must be more than 0, and no more than a year."),
        ({"minutes": 1e300}, "minutes must be more than 0, and no more than a year."),
        ({"ends_at": "2026-03-20T04:00:00Z"}, "ends_at or minutes is needed, and not both."),
        ({"minutes": None}, "ends_at or minutes is needed, and not both."),
        ({"minutes": None, "ends_at": "2026-03-14T15:09:26Z"}, "ends_at must be later than the start, and than now."),
        (
            {"starts_at": "2028-03-14T15:09:26Z"},
            "ends_at must not be more than a year away, nor that long after the start.",
        ),
        ({"starts_at": "2026-03-20T04:00:00"}, "starts_at must say its offset: 2026-12-01T02:00:00Z."),
        ({"starts_at": "0001-01-01T00:00:00+14:00"}, "starts_at is out of range."),
        ({"reason": ""}, "reason must be a line of 1 to 200 printable characters."),
        ({"reason": "x\ny"}, "reason must be a line of 1 to 200 printable characters."),
    ],
)
async def test_a_maintenance_that_cannot_be(gateway: Gateway, changes: dict[str, Any], detail: str) -> None:
    body = {"services": ["hermes"], "minutes": 90, "reason": "a new disk", **changes}
    assert (await send(gateway, "POST", "/vx11/maintenance", body, 400))["detail"] == detail
    assert gateway.state.books.planned == []


@pytest.mark.thorough
@given(
    st.lists(st.sampled_from(["hermes", "herald", "mcp", "*", "?"]), max_size=4),
    st.text(max_size=210),
    st.none() | st.datetimes(timezones=st.none() | st.timezones()),
    st.none() | st.datetimes(timezones=st.none() | st.timezones()),
    st.none() | st.floats(allow_nan=False, allow_infinity=False),
)
def test_whatever_is_entered_is_a_sound_window_or_refused(
    services: list[str], reason: str, starts_at: Any, ends_at: Any, minutes: float | None
) -> None:
    names = {"hermes": "hermes", "herald": "hermes", "mcp": "mcp"}
    try:
        window = check_window(
            services, reason, names=names, now=NOW, starts_at=starts_at, ends_at=ends_at, minutes=minutes
        )
    except InvalidInputError:
        return
    assert max(NOW, window.starts_at) < window.ends_at <= NOW + LONGEST
    assert set(window.services) <= {"hermes", "mcp"}
    assert (window.services == ()) is ("*" in services)


async def test_an_incident_has_what_came_before_those_of_its_root(gateway: Gateway) -> None:
    gateway.state.books.incidents = [HERMES, MCP]
    deploy = Precursor("ci", "deploy.started", dict.fromkeys((1, 2, 3, 4, HERMES.id), 9), 1, 1e-6, 2e-5)
    noise = Precursor("ci", "tick", {1: 9}, 30, 0.7, 0.9)
    service = ServicePrecursors("hermes", 60, (1, 2, 3, 4, 5, HERMES.id), 80, (deploy, noise))
    gateway.state.report = replace(gateway.state.report, services={"hermes": service})
    found = (await get(gateway, f"/vx11/incidents/{HERMES.id}?days=10"))["before"]
    first, second = found.pop("types")
    assert found == {
        "service": "hermes",
        "since": "2026-03-04T15:09:26Z",
        "until": "2026-03-14T15:09:26Z",
        "within_seconds": 600,
        "left_out_seconds": 60,
        "incidents": 6,
        "other_windows": 80,
        "counted": True,
    }
    assert first == {
        "source": "ci",
        "type": "deploy.started",
        "here": True,
        "incidents_with": 5,
        "other_windows_with": 1,
        "p": 1e-6,
        "q": 2e-5,
        "claimed": True,
        "sentence": service.sentence(deploy),
    }
    assert (second["here"], second["claimed"]) == (False, False)
    assert (await get(gateway, f"/vx11/incidents/{MCP.id}"))["before"] is None, "the report does not have mcp"
    for days in ("0", "91", "x", ""):
        await get(gateway, f"/vx11/incidents/{HERMES.id}?days={days}", 400)
    gateway.state.lost = "The database is away."
    assert (await get(gateway, f"/vx11/incidents/{HERMES.id}"))["before"] is None


async def test_an_incident_is_acknowledged_by_a_name(gateway: Gateway) -> None:
    gateway.state.books.incidents = [HERMES, MCP]
    path = f"/vx11/incidents/{HERMES.id}/acknowledgements"
    made = await send(gateway, "POST", path, {"author": " ana ", "note": " on it\nnow "})
    assert made == {"id": 1, "at": "2026-03-14T15:09:26Z", "author": "ana", "note": "on it\nnow"}
    assert (await get(gateway, f"/vx11/incidents/{HERMES.id}"))["acknowledged"] == made
    assert (await send(gateway, "POST", path, {"author": "jon"}))["note"] is None
    assert [
        one["acknowledged"] and one["acknowledged"]["author"]
        for one in (await get(gateway, "/vx11/incidents"))["incidents"]
    ] == ["jon", None]
    over = await send(gateway, "POST", f"/vx11/incidents/{MCP.id}/acknowledgements", {"author": "ana"}, 409)
    assert over["error"] == "incident_over"
    for number in ("7", "one", "9" * 400):
        await send(gateway, "POST", f"/vx11/incidents/{number}/acknowledgements", {"author": "ana"}, 404)
    gateway.state.books.problem = "The database file x.db is read-only."
    assert (await send(gateway, "POST", path, {"author": "ana"}, 503))["error"] == "store_unavailable"


@pytest.mark.parametrize(
    "body",
    [
        *({}, {"author": ""}, {"author": " "}, {"author": "a" * 81}, {"author": "a\nb"}, {"author": "a\u202eb"}),
        *({"author": "ana", "note": "x" * 4001}, {"author": "ana", "note": "\u0000"}, {"author": 7}, []),
        {"author": "ana", "token": "x"},
    ],
)
async def test_an_acknowledgement_that_cannot_be(gateway: Gateway, body: Any) -> None:
    gateway.state.books.incidents = [HERMES]
    await send(gateway, "POST", f"/vx11/incidents/{HERMES.id}/acknowledgements", body, 400)
    assert gateway.state.books.incidents == [HERMES]


async def test_an_open_incident_has_the_recent_rates_of_its_root_beside_the_worst_minute(gateway: Gateway) -> None:
    gateway.state.books.incidents = [HERMES, MCP]
    gateway.state.rates["hermes"] = RecentRates(int(NOW.timestamp()) // 60 * 60, 5, Tally(0, 30), Tally(50, 20))
    found = await get(gateway, f"/vx11/incidents/{HERMES.id}")
    assert (found["peak_error_rate"], found["recent"]["failed_share"]) == (0.964, 0.5)
    assert found["recent"]["requests"]["failed_per_minute"] == 4.0
    assert (await get(gateway, f"/vx11/incidents/{MCP.id}"))["recent"] is None, "it is over"
    gateway.state.lost = "The database file fleet.db is damaged."
    assert (await get(gateway, f"/vx11/incidents/{HERMES.id}"))["recent"] is None
