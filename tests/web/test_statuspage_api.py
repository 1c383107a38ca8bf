"""The documents that programs for Statuspage read below `/status/api/v2/`."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from typing import Any

import jsonschema
import pytest

from tentaculo.model.health import DegradedKind, Health, ServiceView
from tentaculo.model.incident import Acknowledgement, MaintenanceWindow
from tentaculo.model.page import PageInfo, ServiceInfo
from tentaculo.web.statuspage_api import component_status, indicator, stable_id
from tests.support.native_gateway import CLOSED, NOW, OPEN, ORIGIN, UNSEEN, Gateway, State, running, view
from tests.web.test_incidents import HERMES, MCP, NOTE

PATHS = {
    "summary.json": {"page", "status", "components", "incidents", "scheduled_maintenances"},
    "status.json": {"page", "status"},
    "components.json": {"page", "components"},
    "incidents.json": {"page", "incidents"},
    "incidents/unresolved.json": {"page", "incidents"},
    "scheduled-maintenances.json": {"page", "scheduled_maintenances"},
    "scheduled-maintenances/upcoming.json": {"page", "scheduled_maintenances"},
    "scheduled-maintenances/active.json": {"page", "scheduled_maintenances"},
}
TIME = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$"}
ID = {"type": "string", "pattern": "^[a-z0-9]{12,16}$"}
TEXT = {"type": "string", "minLength": 1}


def shape(**members: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(members), "properties": members, "additionalProperties": False}


def maybe(form: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [form, {"type": "null"}]}


COMPONENT = shape(
    id=ID,
    name=TEXT,
    description=maybe(TEXT),
    status={"enum": ["operational", "degraded_performance", "partial_outage", "major_outage", "under_maintenance"]},
    created_at=TIME,
    updated_at=TIME,
    start_date={"type": "null"},
    position={"type": "integer", "minimum": 1},
    showcase={"const": False},
    only_show_if_degraded={"const": False},
    group={"type": "boolean"},
    group_id=maybe(ID),
    page_id=ID,
)
COMPONENT["properties"]["components"] = {"type": "array", "items": ID}
UPDATE = shape(
    id=ID,
    incident_id=ID,
    status=TEXT,
    body=TEXT,
    created_at=TIME,
    updated_at=TIME,
    display_at=TIME,
    affected_components={"type": "null"},
    deliver_notifications={"const": False},
    custom_tweet={"type": "null"},
    tweet_id={"type": "null"},
)
EVENT = {
    "id": ID,
    "name": TEXT,
    "created_at": TIME,
    "updated_at": TIME,
    "started_at": TIME,
    "monitoring_at": {"type": "null"},
    "resolved_at": maybe(TIME),
    "shortlink": {"type": "string", "pattern": "^https://status.example.org/status"},
    "page_id": ID,
    "incident_updates": {"type": "array", "minItems": 1, "items": UPDATE},
    "components": {"type": "array", "items": COMPONENT},
}
INCIDENT = shape(
    **EVENT,
    status={"enum": ["investigating", "identified", "monitoring", "resolved"]},
    impact={"enum": ["none", "minor", "major", "critical"]},
)
MAINTENANCE = shape(
    **EVENT,
    status={"enum": ["scheduled", "in_progress"]},
    impact={"const": "maintenance"},
    scheduled_for=TIME,
    scheduled_until=TIME,
)
FORM = {
    "type": "object",
    "required": ["page"],
    "additionalProperties": False,
    "properties": {
        "page": shape(id=ID, name=TEXT, url=TEXT, time_zone=TEXT, updated_at=TIME),
        "status": shape(indicator={"enum": ["none", "minor", "major", "critical"]}, description=TEXT),
        "components": {"type": "array", "items": COMPONENT},
        "incidents": {"type": "array", "items": INCIDENT},
        "scheduled_maintenances": {"type": "array", "items": MAINTENANCE},
    },
}
HOUR = timedelta(hours=1)


def busy() -> State:
    """A fleet in every state, with open and ended incidents and current and planned maintenance."""
    state = State(
        info=PageInfo(
            "Casa",
            services={
                "hermes": ServiceInfo("Sends mail.", "ana", "Mail", "https://wiki.example.org"),
                "operator": ServiceInfo(group="Mail"),
            },
        )
    )
    state.books.incidents = [
        replace(HERMES, acknowledged=Acknowledgement(1, HERMES.id, NOW - 10 * timedelta(minutes=1), "ana", "the disk")),
        MCP,
    ]
    state.books.notes = {HERMES.id: [NOTE]}
    state.books.planned = [
        MaintenanceWindow(("spawner",), NOW - HOUR, NOW + HOUR, "a new disk", "ben", 7),
        MaintenanceWindow((), NOW + 24 * HOUR, NOW + 25 * HOUR, "moving house"),
    ]
    state.stored_incidents = [replace(MCP, id=MCP.id - 1000), replace(MCP, id=MCP.id - 2000, part_of=MCP.id)]
    return state


async def document(gateway: Gateway, path: str = "summary.json", **headers: str) -> Any:
    async with gateway.client.get(f"/status/api/v2/{path}", headers=headers) as answer:
        assert answer.status == 200, await answer.text()
        assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
        return await answer.json()


@pytest.mark.thorough
@pytest.mark.parametrize("state", [State(), State(services=()), busy()], ids=["plain", "empty", "busy"])
@pytest.mark.parametrize("path", PATHS)
async def test_each_document_has_the_form(state: State, path: str) -> None:
    async with running(state) as gateway:
        found = await document(gateway, path)
        jsonschema.validate(found, FORM, format_checker=jsonschema.FormatChecker())
        assert found.keys() == PATHS[path]


async def test_the_summary_says_what_the_overview_says() -> None:
    async with running(busy()) as gateway:
        found = await document(gateway)
    assert found["page"]["name"] == "Casa"
    assert found["page"]["url"] == "https://status.example.org/status"
    assert found["page"]["time_zone"] == "UTC"
    assert found["status"] == {"indicator": "major", "description": "hermes is down"}
    states = {one["name"]: one["status"] for one in found["components"]}
    assert states == {
        "madre": "operational",
        "switch": "degraded_performance",
        "hermes": "major_outage",
        "mcp": "partial_outage",
        "shubniggurath": "under_maintenance",
        "spawner": "under_maintenance",
        "operator": "operational",
        "Mail": "major_outage",
    }
    by_name = {one["name"]: one for one in found["components"]}
    mail, hermes = by_name["Mail"], by_name["hermes"]
    assert (mail["group"], mail["components"]) == (True, [hermes["id"], by_name["operator"]["id"]])
    assert (hermes["group_id"], hermes["description"], by_name["madre"]["group_id"]) == (
        mail["id"],
        "Sends mail.",
        None,
    )
    assert [one["name"] for one in found["incidents"]] == ["hermes is down"]
    assert [one["name"] for one in found["scheduled_maintenances"]] == ["a new disk", "moving house"]


async def test_an_incident_has_its_updates_and_components() -> None:
    async with running(busy()) as gateway:
        everything = (await document(gateway, "incidents.json"))["incidents"]
        assert [one["id"] for one in everything] == [str(HERMES.id), str(MCP.id), str(MCP.id - 1000)]
        opened, ended, _ = everything
        assert (opened["status"], opened["impact"], opened["resolved_at"]) == ("identified", "major", None)
        assert opened["shortlink"] == f"https://status.example.org/status/incidents/{HERMES.id}"
        assert [one["status"] for one in opened["incident_updates"]] == ["identified", "investigating"]
        assert opened["incident_updates"][1]["body"] == "hermes is down: connection refused. operator fails with it."
        assert [one["name"] for one in opened["components"]] == ["hermes", "operator"]
        assert (ended["status"], ended["resolved_at"]) == ("resolved", "2026-03-14T14:49:26Z")
        assert ended["incident_updates"][0]["status"] == "resolved"
        assert ended["incident_updates"][0]["body"] == "It is healthy again.", "what the service said is left out"
        unresolved = await document(gateway, "incidents/unresolved.json")
        assert unresolved["incidents"] == [opened]


async def test_maintenance_is_upcoming_or_active() -> None:
    async with running(busy()) as gateway:
        names = {}
        for path in ("scheduled-maintenances", "scheduled-maintenances/upcoming", "scheduled-maintenances/active"):
            found = (await document(gateway, f"{path}.json"))["scheduled_maintenances"]
            names[path.rpartition("/")[2]] = [(one["name"], one["status"], len(one["components"])) for one in found]
        now, later = ("a new disk", "in_progress", 1), ("moving house", "scheduled", 7)
        assert names == {"scheduled-maintenances": [now, later], "upcoming": [later], "active": [now]}


@pytest.mark.parametrize("path", PATHS)
async def test_nothing_private_is_in_it(path: str) -> None:
    state = busy()
    state.services = tuple(
        replace(one, reason="secret words", snippet="secret words", health_url="http://10.9.8.7")
        for one in state.services
    )
    state.books.incidents = [
        replace(one, reason="10.9.8.7 said: secret words", ending="It is healthy again: secret words", cause=None)
        for one in state.books.incidents
    ]
    async with running(state) as gateway, gateway.client.get(f"/status/api/v2/{path}") as answer:
        text = await answer.text()
    for private in ("secret words", "10.9.8.7", "ana", "ben", "The disk is full.", "wiki"):
        assert not re.search(rf"\b{private}\b", text), private


@pytest.mark.parametrize(
    ("services", "said"),
    [
        ((), "none"),
        ((view("a"), view("b", health=Health.OFF)), "none"),
        ((view("a", health=Health.UNKNOWN, **UNSEEN), view("b", health=Health.MAINTENANCE)), "none"),
        ((view("a"), view("b", health=Health.DEGRADED, kind=DegradedKind.SLOW)), "minor"),
        ((view("a"), view("b", breaker=OPEN)), "minor"),
        ((view("a"), view("b", health=Health.DOWN)), "major"),
        (
            (view("b", health=Health.DOWN), view("c", health=Health.MAINTENANCE), view("d", health=Health.OFF)),
            "critical",
        ),
        ((view("a", health=Health.DOWN), view("b", health=Health.DEGRADED)), "major"),
    ],
)
def test_the_indicator(services: tuple[ServiceView, ...], said: str) -> None:
    assert indicator(services) == said


@pytest.mark.parametrize("health", Health)
@pytest.mark.parametrize("kind", [None, *DegradedKind])
@pytest.mark.parametrize("breaker", [CLOSED, OPEN])
def test_every_state_has_a_status(health: Health, kind: DegradedKind | None, breaker: Any) -> None:
    found = component_status(view("a", health=health, kind=kind, breaker=breaker))
    assert found in COMPONENT["properties"]["status"]["enum"]
    assert (found == "operational") == (health in (Health.UP, Health.UNKNOWN) and breaker is CLOSED)


async def test_an_id_stays_while_everything_else_changes() -> None:
    state = busy()
    async with running(state) as gateway:
        before = await document(gateway)
        state.clock += 1
        state.services = tuple(reversed([replace(one, health=Health.UP, since=NOW) for one in state.services[1:]]))
        state.books.planned[0] = replace(state.books.planned[0], ends_at=NOW + 2 * HOUR)
        after = await document(gateway)
    ids = [{one["name"]: one["id"] for one in found["components"]} for found in (before, after)]
    assert ids[1].items() <= ids[0].items()
    assert len(set(ids[0].values())) == len(ids[0])
    assert before["page"]["id"] == after["page"]["id"]
    for member in ("incidents", "scheduled_maintenances"):
        assert [one["id"] for one in before[member]] == [one["id"] for one in after[member]]
    assert stable_id("service", "Mail") != stable_id("group", "Mail")


async def test_browsers_elsewhere_may_read_it_while_it_is_public(gateway: Gateway) -> None:
    async with gateway.client.get("/status/api/v2/summary.json", headers={"Origin": "https://other.example"}) as answer:
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert "Access-Control-Allow-Credentials" not in answer.headers
        assert answer.headers["Cache-Control"] == "no-cache"
    async with gateway.client.get("/status/api/v2/summary.json", headers={"Origin": ORIGIN}) as answer:
        assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN


async def test_of_a_page_that_is_not_public_nothing_is_shared() -> None:
    headers = {"Origin": "https://a.example"}
    async with (
        running(State(is_public=False)) as gateway,
        gateway.client.get("/status/api/v2/summary.json", headers=headers) as answer,
    ):
        assert "Access-Control-Allow-Origin" not in answer.headers
        assert answer.headers["Cache-Control"] == "no-cache, private"


async def test_it_is_sent_once_and_made_once_a_second_whatever_is_made_up(gateway: Gateway) -> None:
    state, url = gateway.state, "/status/api/v2/summary.json"
    async with gateway.client.get(url) as answer:
        tag, first = answer.headers["ETag"], await answer.read()
    async with gateway.client.get(url, headers={"If-None-Match": tag}) as answer:
        assert (answer.status, await answer.read()) == (304, b"")
    state.services = (view("madre"),)
    for made_up in range(5):
        async with gateway.client.get(f"{url}?x={made_up}") as answer:
            assert await answer.read() == first
    state.clock += 1
    async with gateway.client.get(url, headers={"If-None-Match": tag}) as answer:
        assert (answer.status, (await answer.json())["status"]["description"]) == (200, "madre is up")
    async with gateway.client.head(url) as answer:
        assert (answer.status, await answer.read()) == (200, b"")


async def test_without_the_database_the_incidents_in_memory_are_shown() -> None:
    state = busy()
    state.lost = "The database file is locked."
    async with running(state) as gateway:
        found = (await document(gateway, "incidents.json"))["incidents"]
        assert [one["id"] for one in found] == [str(HERMES.id), str(MCP.id)]
        for _ in range(3):
            state.clock += 1
            await document(gateway, "incidents.json")
        assert state.asked_for_incidents == 1, "it is not asked at every look"


async def test_a_thousand_services_in_one_incident_stay_bounded() -> None:
    names = tuple(f"service-{n}" for n in range(1000))
    state = State(services=tuple(view(name, health=Health.DOWN) for name in names))
    state.books.incidents = [replace(HERMES, id=n, root=names[0], services=names) for n in range(80)]
    state.books.planned = [MaintenanceWindow((), NOW - HOUR, NOW + HOUR, f"number {n}", "", n) for n in range(80)]
    async with running(state) as gateway:
        found = await document(gateway)
    assert len(found["components"]) == 1000
    for member in ("incidents", "scheduled_maintenances"):
        assert [len(one["components"]) for one in found[member]] == [50] * 50
