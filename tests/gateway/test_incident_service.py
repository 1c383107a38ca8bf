"""Incidents and alerts on real sockets: a service that fails, a database, and a receiver of webhooks."""

from __future__ import annotations

import asyncio
import base64
import json
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import standardwebhooks
from aiohttp import ClientSession, web
from structlog.testing import capture_logs

from tentaculo.config.schema import Config
from tentaculo.gateway import incident_repository, incident_service
from tentaculo.gateway.gateway import Gateway
from tentaculo.health import steady_clock
from tentaculo.incidents import notifier
from tentaculo.model.health import Health
from tentaculo.model.incident import Incident, MaintenanceWindow
from tentaculo.security.tokens import hash_token
from tentaculo.store import migrate
from tentaculo.store.database import once
from tentaculo.store.incidents import add_acknowledgement, add_note, add_window, find, save
from tests.conftest import TOKEN, Start
from tests.support.waits import eventually
from tests.support.webhook_receiver import Receiver, receiving

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounds as short as a test can bear."""
    monkeypatch.setattr(incident_service, "TICK", 0.02)
    monkeypatch.setattr(incident_service, "ROUND", 1)
    monkeypatch.setattr(incident_repository, "VISIT_EVERY", 0.1)
    monkeypatch.setattr(incident_repository, "PAUSE", 0.02)


class Services:
    """Small services that are well until told otherwise."""

    def __init__(self) -> None:
        self.down: set[str] = set()
        self.asked = 0
        self.alternates = False
        self.url = ""

    async def health(self, request: web.Request) -> web.Response:
        self.asked += 1
        fails = self.asked % 2 == 0 if self.alternates else request.match_info["name"] in self.down
        return web.Response(status=500 if fails else 200)

    def table(self, name: str, **more: Any) -> dict[str, Any]:
        probe = {"interval": 0.05, "recheck": 0.05, "failures": 1, "successes": 1, "timeout": 20}
        return {"url": self.url, "health": [f"/{name}"], "probe": probe, **more}


@pytest.fixture
async def services() -> AsyncIterator[Services]:
    found = Services()
    app = web.Application()
    app.router.add_get("/{name}", found.health)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.url = "http://{}:{}".format(*runner.addresses[0][:2])
    yield found
    await runner.cleanup()


class Client:
    """Somebody who asks the gateway."""

    def __init__(self, session: ClientSession, gateway: Gateway) -> None:
        self.session = session
        self.gateway = gateway
        self.url = gateway.running.url

    async def get(self, path: str) -> Any:
        async with self.session.get(path) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()

    async def post(self, path: str, body: Any, status: int = 201) -> Any:
        async with self.session.post(path, json=body) as answer:
            assert answer.status == status, await answer.text()
            return await answer.json(content_type=None)

    async def until(self, path: str, holds: Callable[[Any], object]) -> Any:
        async with asyncio.timeout(20):
            while not holds(found := await self.get(path)):
                await asyncio.sleep(0.02)
        return found

    async def open_roots(self, *roots: str) -> Any:
        """Wait until exactly these have open incidents."""
        return await self.until(
            "/vx11/incidents?open=true", lambda found: [one["root"] for one in found["incidents"]] == list(roots)
        )


@asynccontextmanager
async def gateway(
    file: Path | str, fleet: dict[str, Any], receiver: Receiver | None = None, **sections: Any
) -> AsyncIterator[Client]:
    alerts: dict[str, Any] = {"wait": 0, **sections.pop("alerts", {})}
    if receiver is not None:
        alerts["webhooks"] = {"duty": {"url": receiver.url, "secrets": [SECRET]}}
    config = Config.of(
        {
            "server": {"port": 0, "grace": 1},
            "database": {"url": f"sqlite:///{file}"},
            "services": fleet,
            "incidents": {"settle": 0.3},
            "alerts": alerts,
            **sections,
        }
    )
    async with Gateway(config, [hash_token(TOKEN)]) as running:
        headers = {"X-VX11-Token": TOKEN}
        async with ClientSession(running.running.url, headers=headers) as session:
            yield Client(session, running)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "fleet.db"
    migrate.upgrade(f"sqlite:///{path}")
    return path


def told(receiver: Receiver) -> list[tuple[str, str]]:
    """Type and title of every message, each verified by another's implementation."""
    found = []
    for post in receiver.posts:
        body = standardwebhooks.Webhook(SECRET).verify(post.body, post.headers)
        found.append((body["type"], body["data"]["title"]))
    return found


async def test_a_failure_is_an_incident_with_alerts_and_a_note_and_ends(services: Services, file: Path) -> None:
    async with receiving() as receiver, gateway(file, {"hermes": services.table("hermes")}, receiver) as client:
        services.down.add("hermes")
        (opened,) = (await client.open_roots("hermes"))["incidents"]
        assert opened["reason"].startswith("answered 500 at /hermes")
        assert (opened["services"], opened["severity"], opened["ended_at"]) == (["hermes"], "down", None)
        assert opened["reason_code"] == "failed_at"
        assert opened["reason_values"] == {"what": {"code": "answered", "values": {"status": 500}}, "paths": "/hermes"}
        await receiver.has(1)
        path = f"/vx11/incidents/{opened['id']}"
        note = await client.post(f"{path}/notes", {"text": "The disk is full.\nI am on it.", "author": "ana"})
        assert (note["author"], note["text"]) == ("ana", "The disk is full.\nI am on it.")
        await client.until(path, lambda one: one["peak_error_rate"])
        services.down.clear()
        await client.open_roots()
        await receiver.has(2)
        over = await client.get(path)
        assert over["ending"].startswith("It is healthy again: answered 200")
        assert (over["ending_code"], over["ending_values"]["what"]["code"]) == ("recovered", "took")
        assert [one["text"] for one in over["notes"]] == ["The disk is full.\nI am on it."]
        assert 0 < over["peak_error_rate"] <= 1
        assert over["alerted_at"] is not None
    (kind, title), (last_kind, last_title) = told(receiver)
    assert (kind, title) == ("incident.opened", "hermes is down")
    assert last_kind == "incident.ended"
    assert last_title.startswith("hermes: over after ")
    data = json.loads(receiver.posts[0].body)["data"]
    assert data["incidents"][0]["url"].startswith("http://127.0.0.1:")
    assert data["incidents"][0]["url"].endswith(f"/status/incidents/{opened['id']}")


async def test_what_became_of_each_message_is_told_of_the_incident_and_of_the_channel_over_a_restart(
    services: Services, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifier, "FIRST_PAUSE", 0.01)
    fleet = {"hermes": services.table("hermes")}
    async with receiving(502, 502, "reset", 204) as receiver:
        async with gateway(file, fleet, receiver, alerts={"attempts": 2, "remind": 3600}) as client:
            assert (await client.get("/tentaculo/alerts"))["channels"] == [
                {"name": "duty", "kind": "webhook", "sent": 0, "failed": 0}
                | dict.fromkeys(("last_sent_at", "last_error_at", "last_error"))
            ]
            services.down.add("hermes")
            (opened,) = (await client.open_roots("hermes"))["incidents"]
            path = f"/vx11/incidents/{opened['id']}"
            await client.until(path, lambda one: one["alerted_at"])
        # Another process has it from the database.
        async with gateway(file, fleet, receiver, alerts={"attempts": 2, "remind": 3600}) as client:
            found = await client.until(path, lambda one: one["notified"])
            services.down.clear()
            await client.until(path, lambda one: len(one["notified"]) == 3)
            (duty,) = (await client.get("/tentaculo/alerts"))["channels"]
    first, second = found["notified"]
    assert (first["channel"], first["kind"], first["outcome"]) == ("duty", "incident.opened", "failed")
    assert (first["messages"], first["attempts"], first["error"]) == (1, 2, "answered 502")
    assert (second["outcome"], second["attempts"], second["error"]) == ("delivered", 2, None)
    assert opened["started_at"] <= first["first_at"] <= first["at"] <= second["at"]
    assert (duty["sent"], duty["failed"], duty["last_error"]) == (2, 1, "closed the connection before it answered")
    assert duty["last_error_at"] < duty["last_sent_at"]
    assert "a-secret" not in json.dumps([found, duty]), "an address may hold a password"


@pytest.mark.thorough
async def test_an_acknowledgement_by_either_way_is_known_everywhere_and_is_an_event(
    services: Services, file: Path
) -> None:
    fleet = {name: services.table(name) for name in ("hermes", "mcp")}
    quick = {"alerts": {"remind": 0.3}}
    async with receiving() as receiver:
        async with gateway(file, fleet, receiver, **quick) as client:
            services.down |= {"hermes", "mcp"}
            found = await client.until("/vx11/incidents?open=true", lambda found: len(found["incidents"]) == 2)
            numbers = {one["root"]: one["id"] for one in found["incidents"]}
            hermes, mcp = (f"/vx11/incidents/{numbers[name]}" for name in ("hermes", "mcp"))
            await eventually(lambda: "incident.reminder" in dict(told(receiver)))
            made = await client.post(f"{hermes}/acknowledgements", {"author": "ana", "note": "on it"})
            assert (await client.get(hermes))["acknowledged"] == made
            await client.post(f"{hermes}/acknowledgements", {"author": "eva"})
            # As the command does, in a process of its own.
            once(
                f"sqlite:///{file}",
                lambda connection: add_acknowledgement(connection, numbers["mcp"], "jon", "", datetime.now(UTC)),
            )
            await client.until(mcp, lambda one: one["acknowledged"])
            await client.until("/events?type=gateway.incident.acknowledged", lambda found: len(found["events"]) == 3)
        async with gateway(file, fleet, receiver, **quick) as client:
            assert (await client.until(hermes, lambda one: one["acknowledged"]))["acknowledged"]["author"] == "eva"
            services.down.clear()
            await client.open_roots()
            events = (await client.get("/events?type=gateway.incident.acknowledged"))["events"]
            assert sorted((one["payload"]["author"], one["payload"]["note"]) for one in events) == [
                ("ana", "on it"),
                ("eva", ""),
                ("jon", ""),
            ], "a restart records none again"
            over = await client.post(f"{hermes}/acknowledgements", {"author": "ana"}, status=409)
            assert over["error"] == "incident_over"


@pytest.mark.thorough
async def test_a_parent_that_falls_is_one_incident_and_one_alert(services: Services, file: Path) -> None:
    fleet = {
        "switch": services.table("switch"),
        "operator": services.table("operator", depends_on=["switch"]),
        "front": services.table("front", depends_on=["operator"]),
    }
    async with (
        receiving() as receiver,
        gateway(file, fleet, receiver, alerts={"wait": 2}, incidents={"settle": 20}) as client,
    ):
        await client.until("/vx11/status", lambda found: found["ok"])
        services.down |= {"switch", "operator", "front"}
        found = await client.until(
            "/vx11/incidents?open=true",
            lambda found: [sorted(one["services"]) for one in found["incidents"]] == [["front", "operator", "switch"]],
        )
        assert found["incidents"][0]["root"] == "switch"
        await receiver.has(1)
    ((kind, title),) = told(receiver)
    assert (kind, title.partition(",")[0]) == ("incident.opened", "switch is down")


async def test_maintenance_holds_at_once_suppresses_alerts_and_what_is_still_down_alerts_then(
    services: Services, file: Path
) -> None:
    fleet = {"hermes": services.table("hermes", aliases=["herald"]), "mcp": services.table("mcp")}
    async with receiving() as receiver, gateway(file, fleet, receiver) as client:
        window = await client.post(
            "/vx11/maintenance", {"services": ["herald"], "minutes": 60, "reason": "a new disk", "author": "ana"}
        )
        assert (window["services"], window["holds"], window["id"]) == (["hermes"], True, 1)
        status = (await client.get("/vx11/status"))["modules"]
        assert status["hermes"]["status"] == "maintenance"
        services.down |= {"hermes", "mcp"}
        await client.open_roots("mcp")
        await receiver.has(1)
        assert [one["id"] for one in (await client.get("/vx11/maintenance"))["maintenance"]] == [1]
        async with client.session.delete("/vx11/maintenance/1") as answer:
            assert answer.status == 200
            assert (await answer.json())["holds"] is False
        await client.open_roots("hermes", "mcp")
        await receiver.has(2)
        async with client.session.delete("/vx11/maintenance/1") as answer:
            assert answer.status == 404
    assert told(receiver) == [("incident.opened", "mcp is down"), ("incident.opened", "hermes is down")]


async def test_maintenance_of_what_is_down_is_no_end_and_its_end_no_new_failure(services: Services, file: Path) -> None:
    fleet = {"hermes": services.table("hermes"), "mcp": services.table("mcp")}
    async with receiving() as receiver, gateway(file, fleet, receiver) as client:
        services.down.add("hermes")
        await receiver.has(1)
        await client.post("/vx11/maintenance", {"services": ["hermes"], "minutes": 60, "reason": "a new disk"})
        # Another service comes and goes meanwhile, so that everything that was due has been sent.
        services.down.add("mcp")
        await receiver.has(2)
        services.down.remove("mcp")
        await receiver.has(3)
        async with client.session.delete("/vx11/maintenance/1") as answer:
            assert answer.status == 200
        await client.until("/vx11/status", lambda found: found["modules"]["hermes"]["status"] == "error")
        services.down.clear()
        await receiver.has(4)
    found = told(receiver)
    assert found[:2] == [("incident.opened", "hermes is down"), ("incident.opened", "mcp is down")]
    assert [title.partition(" after ")[0] for _, title in found[2:]] == ["mcp: over", "hermes: over"]


async def test_a_message_that_waits_is_held_while_its_incident_is_muted_or_in_maintenance(
    services: Services, file: Path
) -> None:
    async with gateway(file, {"hermes": services.table("hermes")}) as client:
        services.down.add("hermes")
        (opened,) = (await client.open_roots("hermes"))["incidents"]
        service = client.gateway.incident_service
        (incident,) = service._incidents.open
        assert (incident.id, service._is_held(incident)) == (opened["id"], False)
        await client.post("/vx11/maintenance", {"services": ["hermes"], "minutes": 60, "reason": "a new disk"})
        await eventually(lambda: service._is_held(incident))
        async with client.session.delete("/vx11/maintenance/1") as answer:
            assert answer.status == 200
        await eventually(lambda: not service._is_held(incident))
        await service.incident_repository.mute(incident.id, "ana", None)
        assert service._is_held(incident)
        services.down.clear()
        await eventually(lambda: not service._incidents.open)
        assert not service._is_held(incident), "that it is over is announced"


async def test_a_receiver_that_was_away_for_every_attempt_is_notified_when_it_returns(
    services: Services, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifier, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(notifier, "LAST_PAUSE", 0.01)
    services.down.add("hermes")
    fleet = {"hermes": services.table("hermes")}
    async with (
        receiving(*[502] * 5) as receiver,
        gateway(file, fleet, receiver, alerts={"attempts": 2}) as client,
    ):
        await client.until(
            "/vx11/incidents?open=true", lambda found: any(one["alerted_at"] for one in found["incidents"])
        )
        assert len(receiver.posts) == 6
        services.down.clear()
        await receiver.has(7)
    assert [kind for kind, _ in told(receiver)] == ["incident.opened"] * 6 + ["incident.ended"]


@pytest.mark.thorough
async def test_the_reason_of_an_incident_is_that_of_its_opening(services: Services, file: Path) -> None:
    table = services.table("hermes")
    table["probe"]["successes"] = 3
    async with receiving() as receiver, gateway(file, {"hermes": table}, receiver) as client:
        services.down.add("hermes")
        await receiver.has(1)
        services.down.clear()
        await receiver.has(2)
        (over,) = (await client.get("/vx11/incidents"))["incidents"]
    assert over["reason"].startswith("answered 500 at /hermes")
    text = json.loads(receiver.posts[1].body)["data"]["text"]
    assert "It failed because: answered 500 at /hermes" in text


@pytest.mark.thorough
async def test_an_outage_is_not_announced_with_the_share_of_the_minute_before_it(
    services: Services, file: Path
) -> None:
    fleet = {"hermes": services.table("hermes")}
    async with receiving() as receiver, gateway(file, fleet, receiver, alerts={"wait": 0.5}) as client:
        await client.until("/vx11/status", lambda found: found["ok"] and services.asked > 20)
        services.down.add("hermes")
        await receiver.has(1)
    (one,) = json.loads(receiver.posts[0].body)["data"]["incidents"]
    assert one["peak_error_rate"] in (None, 1.0)


async def test_a_service_that_fails_every_other_probe_is_an_incident_and_announced(
    services: Services, file: Path
) -> None:
    table = services.table("hermes")
    table["probe"].update(failures=3, successes=2)
    services.alternates = True
    async with receiving() as receiver, gateway(file, {"hermes": table}, receiver) as client:
        (opened,) = (await client.open_roots("hermes"))["incidents"]
        await receiver.has(1)
    assert opened["severity"] == "degraded"
    assert told(receiver)[:1] == [("incident.opened", "hermes is degraded")]


async def test_maintenance_by_configuration_and_what_another_process_writes_is_noticed(
    services: Services, file: Path
) -> None:
    now = datetime.now(UTC)
    plan = {
        "services": ["hermes"],
        "starts": (now - timedelta(hours=1)).isoformat(),
        "ends": (now + timedelta(hours=1)).isoformat(),
        "reason": "backup",
    }
    fleet = {"hermes": services.table("hermes"), "mcp": services.table("mcp")}
    async with gateway(file, fleet, maintenance=[plan]) as client:
        assert (await client.get("/vx11/status"))["modules"]["hermes"]["status"] == "maintenance"
        window = MaintenanceWindow(("mcp",), now, now + timedelta(hours=1), "by hand")
        once(f"sqlite:///{file}", lambda connection: add_window(connection, window))
        await client.until("/vx11/status", lambda found: found["modules"]["mcp"]["status"] == "maintenance")
        listed = (await client.get("/vx11/maintenance"))["maintenance"]
        assert [(one["source"], one["reason"]) for one in listed] == [
            ("configuration", "backup"),
            ("database", "by hand"),
        ]


async def test_an_open_incident_outlives_the_gateway(services: Services, file: Path) -> None:
    fleet = {"hermes": services.table("hermes"), "mcp": services.table("mcp")}
    services.down |= {"hermes", "mcp"}
    async with receiving() as receiver, gateway(file, fleet, receiver) as client:
        await receiver.has(1)
        await client.until(
            "/vx11/incidents?open=true",
            lambda found: len([one for one in found["incidents"] if one["alerted_at"]]) == 2,
        )
        before = {one["root"]: one for one in (await client.get("/vx11/incidents"))["incidents"]}
    told_before = len(receiver.posts)
    services.down.remove("mcp")
    logs: list[Any]
    async with receiving() as receiver, gateway(file, fleet, receiver) as client:
        with capture_logs() as logs:
            await client.open_roots("hermes")
            await eventually(lambda: [line for line in logs if line["event"] == "incident continued"])
        after = {one["root"]: one for one in (await client.get("/vx11/incidents"))["incidents"]}
        assert after["hermes"]["id"] == before["hermes"]["id"]
        assert after["hermes"]["started_at"] == before["hermes"]["started_at"]
        assert after["mcp"]["id"] == before["mcp"]["id"]
        assert after["mcp"]["ending"].startswith("Healthy when the gateway started; last seen failing at ")
        await receiver.has(1)
    assert told_before in (1, 2)
    assert [kind for kind, _ in told(receiver)] == ["incident.ended"], "that they opened was told before"
    assert not [line for line in logs if line["event"] == "incident opened"]


@pytest.mark.thorough
async def test_an_outage_that_a_locked_database_hides_at_the_start_has_one_end(
    services: Services, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(incident_repository, "OPEN_WAIT", 0.05)
    fleet = {"hermes": services.table("hermes"), "mcp": services.table("mcp")}
    services.down.add("hermes")
    async with receiving() as receiver, gateway(file, fleet, receiver) as client:
        await receiver.has(1)
        (stored,) = (
            await client.until("/vx11/incidents?open=true", lambda found: found["incidents"][0]["alerted_at"])
        )["incidents"]
    with closing(sqlite3.connect(file, isolation_level=None)) as other, capture_logs() as logs:
        other.execute("BEGIN EXCLUSIVE")
        async with receiving() as receiver, gateway(file, fleet, receiver, incidents={"settle": 1}) as client:
            await receiver.has(1)
            other.execute("ROLLBACK")
            await client.until(
                "/vx11/incidents?open=true", lambda found: [one["id"] for one in found["incidents"]] == [stored["id"]]
            )
            services.down = {"mcp"}
            # The message about mcp comes behind any that is due of the end.
            await receiver.has(3)
            services.down.clear()
            await receiver.has(4)
    kinds = [(kind, title) for kind, title in told(receiver)]
    assert sorted(title.split()[0] for kind, title in kinds if kind == "incident.ended") == ["hermes:", "mcp:"]
    lines = [
        (line["event"], line["incident"] == stored["id"])
        for line in logs
        if line["event"].startswith("incident") and line["service"] == "hermes"
    ]
    assert lines == [
        ("incident opened", False),
        ("incident continued", True),
        ("incident ended", False),
        ("incident ended", True),
    ]


async def test_what_was_not_delivered_is_sent_by_the_next_process(
    services: Services, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifier, "LAST_WAIT", 0.05)
    services.down.add("hermes")
    fleet = {"hermes": services.table("hermes")}
    async with receiving(*[500] * 99) as receiver, gateway(file, fleet, receiver) as client:
        (opened,) = (await client.open_roots("hermes"))["incidents"]
        await receiver.has(1)
    async with receiving() as receiver, gateway(file, fleet, receiver) as client:
        await receiver.has(1)
        again = await client.until(f"/vx11/incidents/{opened['id']}", lambda one: one["alerted_at"])
        assert again["open"]
    assert told(receiver) == [("incident.opened", "hermes is down")]


async def test_what_another_process_notes_is_on_the_page(services: Services, file: Path) -> None:
    services.down.add("hermes")
    async with gateway(file, {"hermes": services.table("hermes")}) as client:
        (opened,) = (await client.open_roots("hermes"))["incidents"]
        now = datetime.now(UTC)
        once(f"sqlite:///{file}", lambda connection: add_note(connection, opened["id"], "ana", "made <b>room</b>", now))
        async with asyncio.timeout(20):
            while True:
                async with client.session.get("/status") as answer:
                    page = await answer.text()
                if "made &lt;b&gt;room&lt;/b&gt;" in page:
                    break
                await asyncio.sleep(0.1)
        assert f'id="incident-{opened["id"]}"' in page


async def test_what_is_too_old_is_forgotten_once_the_clock_was_steady_for_long(
    services: Services, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime.now(UTC)
    old = Incident(
        1, "hermes", ("hermes",), Health.DOWN, "x", now - timedelta(days=9), now, ended_at=now - timedelta(days=8)
    )
    url = f"sqlite:///{file}"
    once(url, lambda connection: save(connection, [old, replace(old, id=2, ended_at=now - timedelta(days=6))]))
    fleet = {"hermes": services.table("hermes")}
    async with gateway(file, fleet, incidents={"keep": 7}) as client:
        await client.until("/vx11/status", lambda found: found["ok"] and services.asked > 5)
        await client.until("/vx11/incidents", lambda found: found["problem"] is None)
        assert once(url, lambda connection: find(connection, 1)) is not None, "the clock may be ahead"
    monkeypatch.setattr(steady_clock, "STEADY", 0.0)
    async with gateway(file, fleet, incidents={"keep": 7}):
        async with asyncio.timeout(20):
            while once(url, lambda connection: find(connection, 1)) is not None:
                await asyncio.sleep(0.05)
        assert once(url, lambda connection: find(connection, 2)) is not None


@pytest.mark.thorough
async def test_a_lost_database_costs_history_only(services: Services, tmp_path: Path) -> None:
    async with (
        receiving() as receiver,
        gateway(tmp_path / "none.db", {"hermes": services.table("hermes")}, receiver) as client,
    ):
        services.down.add("hermes")
        (opened,) = (await client.open_roots("hermes"))["incidents"]
        await receiver.has(1)
        found = await client.get("/vx11/incidents")
        assert "does not exist" in found["problem"]
        one = await client.get(f"/vx11/incidents/{opened['id']}")
        assert (one["root"], one["notes"]) == ("hermes", [])
        refused = await client.post(f"/vx11/incidents/{opened['id']}/notes", {"text": "x"}, status=503)
        assert refused["error"] == "store_unavailable"
        await client.post("/vx11/maintenance", {"services": ["*"], "minutes": 1, "reason": "x"}, status=503)
        # It comes, and what is in memory is written.
        migrate.upgrade(f"sqlite:///{tmp_path / 'none.db'}")
        await client.until("/vx11/incidents", lambda found: found["problem"] is None)
        await client.post(f"/vx11/incidents/{opened['id']}/notes", {"text": "It is back."})
    async with gateway(tmp_path / "none.db", {"hermes": services.table("hermes")}) as client:
        one = await client.get(f"/vx11/incidents/{opened['id']}")
        assert [note["text"] for note in one["notes"]] == ["It is back."]
    assert told(receiver) == [("incident.opened", "hermes is down")]


@pytest.mark.thorough
async def test_a_database_that_is_locked_delays_no_alert(services: Services, file: Path) -> None:
    fleet = {"hermes": services.table("hermes")}
    async with receiving() as receiver, gateway(file, fleet, receiver) as client:
        await client.until("/vx11/status", lambda found: found["ok"])
        with closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            services.down.add("hermes")
            await receiver.has(1)
            (opened,) = (await client.open_roots("hermes"))["incidents"]
            services.down.clear()
            await receiver.has(2)
            other.execute("ROLLBACK")
        await client.until("/vx11/incidents", lambda found: found["problem"] is None)
        url = f"sqlite:///{file}"
        async with asyncio.timeout(20):
            while (kept := once(url, lambda connection: find(connection, opened["id"]))) is None or kept.is_open:
                await asyncio.sleep(0.05)
    assert [kind for kind, _ in told(receiver)] == ["incident.opened", "incident.ended"]


@pytest.mark.parametrize(
    ("requests", "route", "keys", "reason"),
    [
        (2, {"breaker_statuses": [500]}, {"breaker": {"failures": 2, "open_for": 300}}, "2"),
        # They open no breaker.
        (8, {}, {}, "requests within 10 s failed, though its probes pass"),
    ],
    ids=["by a breaker", "by their share"],
)
async def test_requests_that_fail_are_an_incident_though_the_health_path_is_fine(
    services: Services, file: Path, requests: int, route: dict[str, Any], keys: dict[str, Any], reason: str
) -> None:
    table = services.table("hermes", routes=[{"prefix": "/hermes", **route}], **keys)
    services.down.add("hermes")
    async with gateway(file, {"hermes": {**table, "health": ["/fine"]}}) as client:
        await client.until("/vx11/status", lambda found: found["ok"])
        for _ in range(requests):
            async with client.session.get("/hermes") as response:
                assert response.status == 500
        (opened,) = (await client.open_roots("hermes"))["incidents"]
        assert reason in opened["reason"]


async def test_the_metrics_count_them(services: Services, file: Path) -> None:
    services.down.add("hermes")
    async with receiving() as receiver, gateway(file, {"hermes": services.table("hermes")}, receiver) as client:
        await receiver.has(1)
        async with asyncio.timeout(20):
            while True:
                async with client.session.get("/metrics") as answer:
                    text = await answer.text()
                if 'tentaculo_alerts_sent_total{channel="duty"} 1.0' in text:
                    break
                await asyncio.sleep(0.1)
        assert "tentaculo_incidents_open 1.0" in text
        assert 'tentaculo_alerts_failed_total{channel="duty"} 0.0' in text


async def test_an_end_that_is_stored_before_the_next_round_is_logged(
    services: Services, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(incident_service, "TICK", 0.5)

    def logged(event: str) -> bool:
        return any(line["event"] == event for line in logs)

    with capture_logs() as logs:
        async with gateway(file, {"hermes": services.table("hermes")}) as client:
            await client.until("/vx11/status", lambda found: found["ok"])
            services.down.add("hermes")
            await eventually(lambda: logged("incident opened"))
            services.down.clear()
            await eventually(lambda: logged("incident ended"))


async def test_maintenance_of_many_services_is_begun_in_several_turns(start: Start) -> None:
    """That of a thousand at once took 32 ms of the event loop, in which no request was served."""
    many = 3 * incident_service.MOST_MAINTAINED
    live = await start({f"s{number}": {"url": f"http://127.0.0.1:{number}"} for number in range(1, many + 1)})
    board, incidents = live.gateway.health_service.board, live.gateway.incident_service

    def maintained() -> int:
        return sum(board.health(f"s{number}") is Health.MAINTENANCE for number in range(1, many + 1))

    begins = datetime.now(UTC) - timedelta(minutes=1)
    incidents._calendar.take([MaintenanceWindow((), begins, begins + timedelta(hours=1), "", id=1)])
    incidents.apply_calendar()
    assert maintained() == incident_service.MOST_MAINTAINED
    await eventually(lambda: maintained() == many)
    incidents._calendar.take([])
    incidents.apply_calendar()
    await eventually(lambda: maintained() == 0)
