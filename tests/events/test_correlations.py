"""Which events belong together, by what they state: the graph, and its endpoint on a whole gateway."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import ClientSession
from hypothesis import given
from hypothesis import strategies as st

from tentaculo.config.storage import EventSettings
from tentaculo.events.correlations import (
    MOST_EDGES,
    MOST_SHARING,
    Edge,
    Graph,
    identity,
    node_shape,
    statistical_edges,
)
from tentaculo.model.clock import CorrectedTime
from tentaculo.model.event import Event
from tentaculo.model.precursor import Precursor, PrecursorReport, ServicePrecursors
from tests.conftest import TOKEN, living
from tests.gateway.test_precursor_reports import fill, story
from tests.support.databases import sqlite

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
KEYS = EventSettings().correlate


def event(number: int, payload: dict[str, Any], metadata: dict[str, Any] | None = None, **members: Any) -> Event:
    return Event(number, members.pop("source", "s"), "t", payload, NOW, metadata=metadata or {}, **members)


def edges(*events: Event) -> list[Edge]:
    graph = Graph(KEYS)
    for one in events:
        graph.add(one)
    return list(graph.edges())


def test_vx11_s_own_events_of_one_child_are_joined_across_keys() -> None:
    created = event(1001, {"id": "child-7f3", "name": "worker"}, source="spawner")
    success = event(1002, {"spawn_id": "child-7f3", "seconds": 3}, source="madre")
    other = event(1003, {"spawn_id": "child-8a1"}, source="madre")
    assert edges(created, success, other) == [Edge(1001, 1002, 1.0, "payload.id = spawn_id")]


def test_a_null_in_the_payload_hides_no_fact_of_the_metadata() -> None:
    sent = event(1, {"correlation_id": None, "parent_id": None}, {"correlation_id": "c-1", "parent_id": "p-1"})
    others = event(2, {"correlation_id": "c-1"}), event(3, {"id": "p-1"})
    assert {(edge.source, edge.target) for edge in edges(sent, *others)} == {(1, 2), (3, 1)}


def test_each_fact_joins() -> None:
    trace = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    later = "00-" + "a" * 32 + "-" + "c" * 16 + "-00"
    assert edges(event(1, {"correlation_id": "c-1"}), event(2, {}, {"correlation_id": "c-1"})) == [
        Edge(1, 2, 1.0, "correlation_id")
    ]
    assert edges(event(1, {}, {"traceparent": trace}), event(2, {"traceparent": later})) == [
        Edge(1, 2, 1.0, "traceparent")
    ]
    assert edges(event(1, {"id": "p-1"}), event(2, {"parent_id": "p-1"})) == [Edge(1, 2, 1.0, "parent_id")]
    assert edges(event(5000, {}), event(5001, {"parent_id": 5000})) == [Edge(5000, 5001, 1.0, "parent_id")]
    assert edges(event(1, {}, key="k-1"), event(2, {"parent_id": "k-1"})) == [Edge(1, 2, 1.0, "parent_id")]
    related = event(3, {"related_events": ["k-1", "none", 5, None, {}], "strength": 0.4})
    assert edges(event(1, {}, key="k-1"), related) == [Edge(1, 3, 0.4, "related_events")]


def test_several_that_share_a_value_make_a_chain_and_too_many_make_nothing() -> None:
    assert edges(*(event(number, {"task_id": "task-1"}) for number in range(1, 6))) == [
        Edge(number, number + 1, 1.0, "task_id") for number in range(1, 5)
    ]
    assert edges(*(event(number, {"session_id": "default"}) for number in range(MOST_SHARING + 5))) == []


@pytest.mark.parametrize("value", [None, True, "", "  ", "ab", 7, 10**400, -5000, 1.5, [], {}])
def test_what_names_no_single_thing_joins_nothing(value: object) -> None:
    assert identity(value) is None
    assert edges(event(1, {"task_id": value}), event(2, {"task_id": value})) == []


@pytest.mark.parametrize("strength", [10**400, -1, True, "x", float("inf")])
def test_a_strength_that_is_none_is_one(strength: object) -> None:
    found = edges(event(1, {}, key="k-1"), event(2, {"related_events": ["k-1"], "strength": strength}))
    assert found == [Edge(1, 2, 1.0, "related_events")]


def test_a_broken_traceparent_states_nothing() -> None:
    for value in ("00-" + "0" * 32 + "-" + "b" * 16 + "-01", "00-xyz", 5, None):
        assert edges(event(1, {"traceparent": value}), event(2, {"traceparent": value})) == []


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
PAYLOADS = st.dictionaries(
    st.sampled_from(
        ["id", "spawn_id", "child", "parent_id", "correlation_id", "traceparent", "related_events", "strength"]
    ),
    VALUES,
)


@pytest.mark.thorough
@given(st.lists(PAYLOADS, max_size=20))
def test_every_edge_joins_two_events_that_are_there_once(payloads: list[dict[str, Any]]) -> None:
    events = [event(number, payload) for number, payload in enumerate(payloads, 1)]
    found = edges(*events)
    pairs = [(edge.source, edge.target) for edge in found]
    assert len(set(pairs)) == len(pairs)
    ids = {one.id for one in events}
    assert all(source in ids and target in ids and source != target for source, target in pairs)


def test_a_node_says_which_clock_its_time_is_of() -> None:
    corrected = node_shape(event(1, {}, stated_ms=5, corrected=CorrectedTime(7, 3), severity="L3"))
    assert (corrected["timestamp"], corrected["clock"], corrected["width_ms"]) == (7, "corrected", 3)
    assert corrected["severity"] == "L3"
    stated = node_shape(event(1, {}, stated_ms=5))
    assert (stated["timestamp"], stated["clock"]) == (NOW.timestamp() * 1000, "received")
    assert "width_ms" not in stated
    assert node_shape(Event(1, "s", "system.alert", {}, NOW))["nature"] == "incident"


@pytest.mark.thorough
async def test_the_endpoint(file: Any, tmp_path: Any) -> None:
    headers = {"X-VX11-Token": TOKEN}
    names = [f"r-{number}" for number in range(50)]
    async with living(tmp_path, {}, database={"url": sqlite(file)}) as live, ClientSession() as client:
        base = f"http://127.0.0.1:{live.port}"

        async def graph(query: str = "") -> Any:
            async with client.get(f"{base}/debug/events/correlations{query}", headers=headers) as response:
                assert response.status == 200, await response.text()
                body = await response.json()
                assert body["status"] == "ok"
                assert datetime.fromisoformat(body["timestamp"]) - datetime.now(UTC) < timedelta(minutes=1)
                found = body["graph"]
                assert (found["total_nodes"], found["total_edges"]) == (len(found["nodes"]), len(found["edges"]))
                return found

        sent = []
        for source, type_, payload in (
            ("spawner", "spawn_created", {"id": "child-7f3"}),
            ("madre", "unrelated", {"n": 1}),
            ("madre", "spawn_success", {"spawn_id": "child-7f3", "severity": "L1"}),
        ):
            body = {"source": source, "type": type_, "payload": payload}
            async with client.post(f"{base}/events/ingest", json=body, headers=headers) as response:
                assert response.status == 201
                sent.append((await response.json())["id"])
        found = await graph()
        assert {node["id"] for node in found["nodes"]} >= set(sent)
        assert [node["severity"] for node in found["nodes"] if node["id"] == sent[2]] == ["L1"]
        expected = {
            "source": sent[0],
            "target": sent[2],
            "strength": 1.0,
            "by": "payload.id = spawn_id",
            "kind": "stated",
        }
        assert found["edges"] == [expected]
        assert (await graph("?limit=1"))["total_nodes"] == 1
        assert (await graph("?hours=24&limit=2000"))["total_edges"] == 1
        # Edges are bounded, and no step of the loop computes them all.
        related = [
            {"source": "s", "type": "r", "payload": {"id": f"r-{number}", "related_events": names}}
            for number in range(150)
        ]
        async with client.post(f"{base}/events/ingest", json=related, headers=headers) as response:
            assert response.status == 201
        assert (await graph("?limit=2000"))["total_edges"] == MOST_EDGES
        for query in ("?hours=0", "?hours=x", "?limit=99999"):
            async with client.get(f"{base}/debug/events/correlations{query}", headers=headers) as response:
                assert response.status == 400
        async with client.get(f"{base}/debug/events/correlations") as response:
            assert response.status == 401


def test_a_claim_joins_the_last_event_of_its_type_with_the_opening_of_the_incident() -> None:
    deploy = Precursor("ci", "deploy.started", {1: 11, 2: 12, 3: 13, 4: 14, 5: 15}, 1, 1e-6, 2e-5)
    chance = Precursor("ci", "tick", {1: 21}, 40, 0.5, 0.7)
    service = ServicePrecursors("madre", 60, (1, 2, 3, 4, 5, 6), 80, (deploy, chance))
    report = PrecursorReport(NOW, NOW, 2, {1: 101, 2: 102, 3: 103}, {"madre": service})
    # The graph has the opening of the second incident, and not what came before it.
    (edge,) = statistical_edges(report, {11, 13, 14, 21, 101, 102})
    assert edge == {
        "source": 11,
        "target": 101,
        "strength": 5 / 6,
        "by": "before incidents of madre",
        "kind": "statistical",
        "incidents_with": 5,
        "incidents": 6,
        "other_windows_with": 1,
        "other_windows": 80,
        "p": 1e-6,
        "q": 2e-5,
        "sentence": service.sentence(deploy),
    }


async def test_statistical_edges_on_a_whole_gateway(url: str, tmp_path: Any) -> None:
    # The last incident was an hour ago.
    known, events = story(datetime.now(UTC) + timedelta(days=5))
    fill(url, known, events)
    headers = {"X-VX11-Token": TOKEN}
    async with (
        living(tmp_path, {}, database={"url": url}) as live,
        ClientSession(f"http://127.0.0.1:{live.port}", headers=headers) as client,
    ):

        async def found(path: str) -> Any:
            async with client.get(path) as response:
                assert response.status == 200, await response.text()
                return await response.json()

        edges = (await found("/debug/events/correlations?hours=24"))["graph"]["edges"]
        (edge,) = [edge for edge in edges if edge["kind"] == "statistical"]
        opening = int((known[0].started_at + timedelta(seconds=1)).timestamp() * 1_000_000)
        last = int((known[0].started_at - timedelta(seconds=341)).timestamp() * 1_000_000)
        assert (edge["source"], edge["target"]) == (last, opening)
        assert (edge["incidents_with"], edge["incidents"], edge["other_windows_with"]) == (5, 6, 0)
        assert edge["p"] <= edge["q"] < 0.05
        before = (await found(f"/vx11/incidents/{known[0].id}"))["before"]
        assert [one["sentence"] for one in before["types"] if one["claimed"]] == [edge["sentence"]]
        # Two days have one incident: nothing is claimed.
        short = (await found("/debug/events/correlations?hours=24&days=2"))["graph"]["edges"]
        assert [edge for edge in short if edge["kind"] == "statistical"] == []
        async with client.get("/debug/events/correlations?days=91") as response:
            assert response.status == 400
