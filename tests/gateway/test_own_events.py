"""The gateway's own life in the log of events, by a whole gateway on a real database."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from tentaculo.config.schema import Config
from tentaculo.events.hub import Hub
from tentaculo.events.tail import EventTail
from tentaculo.gateway import own_events
from tentaculo.gateway.gateway import Gateway
from tentaculo.gateway.own_events import AT_ONCE, MOST_WAITING, OwnEvents, reason_members
from tentaculo.model.event import Event, EventFilter, StoredEvent
from tentaculo.model.failure import Failure, Problem
from tentaculo.model.health import GATEWAY_NAME
from tentaculo.model.reason import MOST_LENGTH, Reason, because
from tentaculo.security.tokens import hash_token
from tentaculo.store.event_queries import read_events
from tentaculo.store.lease import LeaseLost
from tentaculo.tasks import TaskGroup
from tests.conftest import TOKEN
from tests.events.conftest import Ledger
from tests.incidents.test_channels import SECRET
from tests.support.databases import sqlite
from tests.support.runtime_tables import opened
from tests.support.waits import eventually
from tests.support.webhook_receiver import receiving
from tests.support.wire import Reader, Upstream, Writer, read_request, upstream

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def own(url: str) -> list[Event]:
    """The gateway's own events, the oldest first."""
    with opened(url) as connection:
        return read_events(connection, EventFilter(sources=(GATEWAY_NAME,)), limit=100).events


def payloads(url: str, type_: str) -> list[dict[str, Any]]:
    return [dict(event.payload) for event in own(url) if event.type == type_]


class Moody:
    """A service that is healthy or not."""

    def __init__(self) -> None:
        self.is_healthy = True

    async def script(self, reader: Reader, writer: Writer, state: Upstream) -> None:
        while True:
            state.requests.append(await read_request(reader))
            writer.write(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % (200 if self.is_healthy else 503))


@pytest.mark.thorough
async def test_start_health_incident_and_stop_are_in_the_log(url: str) -> None:
    moody = Moody()
    async with upstream(moody.script) as up:
        config = Config.of(
            {
                "server": {"port": 0},
                "database": {"url": url},
                "incidents": {"settle": 0.1},
                "services": {
                    "madre": {
                        "url": f"http://127.0.0.1:{up.port}",
                        "probe": {"interval": 0.05, "recheck": 0.05},
                    }
                },
            }
        )
        async with Gateway(config, [hash_token(TOKEN)]) as gateway:
            await eventually(lambda: payloads(url, "gateway.health.changed"))
            moody.is_healthy = False
            await eventually(lambda: payloads(url, "gateway.incident.opened"), seconds=20)
            moody.is_healthy = True
            await eventually(lambda: payloads(url, "gateway.incident.ended"), seconds=20)
            address = gateway.running.url
        (started,) = payloads(url, "gateway.started")
        assert started["address"] == address
        assert payloads(url, "gateway.configuration.loaded")[0]["services"] == ["madre"]
        changes = [(one["before"], one["after"]) for one in payloads(url, "gateway.health.changed")]
        assert changes[:3] == [("unknown", "up"), ("up", "down"), ("down", "up")]
        (opened_,) = payloads(url, "gateway.incident.opened")
        assert (opened_["service"], opened_["services"]) == ("madre", ["madre"])
        down = payloads(url, "gateway.health.changed")[1]
        (ended,) = payloads(url, "gateway.incident.ended")
        assert (ended["ending_code"], ended["ending_values"]["what"]["code"]) == ("recovered", "took")
        for one in (opened_, down):
            known = Reason("", one["reason_code"], one["reason_values"])
            assert "503" in known.public
        assert own(url)[-1].type == "gateway.stopping"
        assert len({event.payload["instance"] for event in own(url)}) == 1
        assert all(event.stated_ms == event.payload["timestamp"] for event in own(url))
        # The next process is another instance, and does not record the same incident again.
        async with Gateway(config, [hash_token(TOKEN)]):
            await eventually(lambda: len(payloads(url, "gateway.started")) == 2)
        assert len({event.payload["instance"] for event in own(url)}) == 2
        assert len(payloads(url, "gateway.incident.opened")) == 1


async def test_a_breaker_and_an_alert_are_in_the_log(file: Path, refusing_port: int) -> None:
    async with receiving() as receiver, ClientSession(headers={"X-VX11-Token": TOKEN}) as client:
        data = {
            "server": {"port": 0},
            "database": {"url": sqlite(file)},
            "alerts": {"wait": 0, "webhooks": {"duty": {"url": receiver.url, "secrets": [SECRET]}}},
            "services": {
                "madre": {
                    "url": f"http://127.0.0.1:{refusing_port}",
                    "breaker": {"failures": 1},
                    "routes": [{"prefix": "/madre"}],
                    "probe": {"interval": 0.05},
                }
            },
        }
        async with Gateway(Config.of(data), [hash_token(TOKEN)]) as gateway:
            async with client.get(f"{gateway.running.url}/madre/x") as response:
                assert response.status == 502
            await eventually(lambda: payloads(sqlite(file), "gateway.alert.sent"))
            await eventually(lambda: payloads(sqlite(file), "gateway.breaker.changed"))
    (breaker,) = payloads(sqlite(file), "gateway.breaker.changed")
    assert (breaker["service"], breaker["state"]) == ("madre", "open")
    assert breaker["endpoint"] == f"127.0.0.1:{refusing_port}"
    refused = {"what": {"code": "connection_refused", "values": {}}, "count": 1}
    assert (breaker["reason_code"], breaker["reason_values"]) == ("one_failure_because", refused)
    assert payloads(sqlite(file), "gateway.alert.sent")[0]["channel"] == "duty"


class Away:
    """A database that is away until told."""

    def __init__(self) -> None:
        self.is_away = True
        self.ledger = Ledger()

    async def __call__(self, new: Sequence[Event]) -> list[StoredEvent]:
        if self.is_away:
            raise Problem(Failure.STORE_UNAVAILABLE)
        return await self.ledger(new)


def recorder(store: Away) -> OwnEvents:
    tail = EventTail(Hub(limit=1, queue=1), store.ledger)
    return OwnEvents(store, tail, is_available=lambda: not store.is_away, now=lambda: NOW, instance="here", worker=2)


async def test_they_wait_for_the_database_and_come_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_events, "RETRY", 0.01)
    store, tasks = Away(), TaskGroup("test")
    own_ = recorder(store)
    tasks.start(own_.run(), "run")
    for number in range(MOST_WAITING + 5):
        own_.record("x", number=number)
    for _ in range(20):
        await asyncio.sleep(0)
    assert repr(own_) == f"<OwnEvents of here: {MOST_WAITING} waiting>"
    store.is_away = False
    await eventually(lambda: repr(own_) == "<OwnEvents of here: 0 waiting>")
    await tasks.close()
    numbers = [event.payload["number"] for event in store.ledger.events]
    assert numbers == list(range(5, MOST_WAITING + 5)), "the oldest are dropped"
    assert len({event.key for event in store.ledger.events}) == MOST_WAITING
    assert store.ledger.events[0].payload["worker"] == 2
    assert store.ledger.asked == MOST_WAITING // AT_ONCE


async def test_the_stop_does_not_wait_for_a_database_that_is_away() -> None:
    store = Away()
    own_ = recorder(store)
    own_.record("x")
    await own_.close()
    assert store.ledger.events == []
    store.is_away = False
    await own_.close()
    assert [event.type for event in store.ledger.events] == ["gateway.x"]


class OtherLeader:
    """A database in which this machine holds no lease until told."""

    def __init__(self, ledger: Ledger) -> None:
        self.is_leader = False
        self.ledger = ledger

    async def __call__(self, new: Sequence[Event]) -> list[StoredEvent]:
        if not self.is_leader:
            raise LeaseLost
        return await self.ledger(new)


async def test_events_about_the_services_are_the_leaders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_events, "LEASE_RETRY", 0.01)
    ledger, tasks = Ledger(), TaskGroup("test")
    fleet = OtherLeader(ledger)
    own_ = OwnEvents(
        ledger,
        EventTail(Hub(limit=1, queue=1), ledger),
        is_available=lambda: True,
        now=lambda: NOW,
        instance="here",
        store_fleet=fleet,
    )
    tasks.start(own_.run(), "run")
    own_.record("health.changed", service="dropped")
    own_.record("started")
    await asyncio.sleep(0.05)
    assert ledger.events == []
    own_.drop_fleet_events()
    await eventually(lambda: ledger.events)
    own_.record("incident.opened", service="madre")
    fleet.is_leader = True
    await eventually(lambda: len(ledger.events) == 2)
    await tasks.close()
    assert [event.type for event in ledger.events] == ["gateway.started", "gateway.incident.opened"]


async def test_an_event_about_the_services_keeps_no_other_one_from_being_stored_at_the_stop() -> None:
    """The lease is released before the end: a request that then changed the health of a service lost what came behind."""
    ledger = Ledger()
    own_ = OwnEvents(
        ledger,
        EventTail(Hub(limit=1, queue=1), ledger),
        is_available=lambda: True,
        now=lambda: NOW,
        instance="here",
        store_fleet=OtherLeader(ledger),
    )
    own_.record("health.changed", service="madre")
    own_.record("tokens.changed")
    await own_.flush()
    assert ledger.events == []
    await own_.close()
    assert [event.type for event in ledger.events] == ["gateway.tokens.changed"]


def test_a_reason_has_its_code_and_values_where_they_are_short() -> None:
    assert reason_members(because("answered", status=503)) == {
        "reason_code": "answered",
        "reason_values": {"status": 503},
    }
    for none in (None, Reason("a text without a code"), because("answered_but", status=503, what="x" * MOST_LENGTH)):
        assert reason_members(none) == {}
