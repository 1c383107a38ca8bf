"""Reload: one generation of the configuration is replaced by another, also for connections that remember the first."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from tentaculo.gateway.generation import StaleGenerationError
from tentaculo.gateway.state_repository import ROWS_AT_ONCE
from tentaculo.gateway.turn_queue import MOST as TURN
from tentaculo.model.health import Health, ServiceView
from tentaculo.security.tokens import hash_token
from tentaculo.server.request_limits import RequestLimits
from tentaculo.server.route_networks import RouteNetworks
from tests.conftest import TOKEN
from tests.support.calls import counting_calls
from tests.support.reloading import OTHER, ask, service, serving
from tests.support.waits import eventually
from tests.support.wire import Upstream, answering, dial, ok, upstream

ORIGIN = "https://page.example"
OF_OURS = ("tentaculo.", "aiohttp.")
MOST_OBJECTS = 5  # 4: the entry of the route table, and the keys by which the parts know the endpoints
"""Of the gateway and of aiohttp, for each service that stays as it is."""


class TestKeptConnections:
    """A client repeats one request on one connection: what the connection remembers must end with its generation."""

    pytestmark = pytest.mark.usefixtures("both_ways")

    async def test_a_revoked_token(self, tmp_path: Path) -> None:
        async with (
            upstream(answering(ok(b"in"))) as up,
            serving(tmp_path, {"madre": service(up)}) as served,
            dial(served.port) as wire,
            dial(served.port) as other,
        ):
            for _ in range(3):
                assert (await ask(wire)).status == 200
                assert (await ask(other, token=OTHER)).status == 200
            await served.reload([hash_token(OTHER)])
            assert (await ask(wire)).status == 403
            assert (await ask(other, token=OTHER)).status == 200
            assert (await ask(wire)).status == 403
            await served.reload([hash_token(OTHER), hash_token(TOKEN)])
            assert (await ask(wire)).status == 200

    async def test_a_revoked_token_at_a_native_path(self, tmp_path: Path) -> None:
        body = b'{"type":"vx11.test","source":"test","payload":{}}'
        async with serving(tmp_path, {}, events={"wait": 0.05}) as served, dial(served.port) as wire:

            async def post() -> int:
                head = f"POST /events/ingest HTTP/1.1\r\nHost: localhost\r\nX-VX11-Token: {TOKEN}\r\n"
                await wire.send(
                    f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
                )
                return (await wire.response("POST")).status

            before = {await post() for _ in range(3)}
            assert not before & {401, 403}
            await served.reload([hash_token(OTHER)])
            assert {await post() for _ in range(2)} == {403}

    async def test_a_route_that_is_guarded_from_now_on(self, tmp_path: Path) -> None:
        async with upstream(answering(ok(b"in"))) as up:
            opened = service(up, {"prefix": "/madre", "auth": "none"})
            async with serving(tmp_path, {"madre": opened}) as served, dial(served.port) as wire:
                for _ in range(3):
                    assert (await ask(wire, token=None)).status == 200
                await served.reload(services={"madre": service(up)})
                assert (await ask(wire, token=None)).status == 401
                await served.reload(services={"madre": opened})
                assert (await ask(wire, token=None)).status == 200

    async def test_a_route_of_another_service(self, tmp_path: Path) -> None:
        async with upstream(answering(ok(b"one"))) as one, upstream(answering(ok(b"two"))) as two:
            both = {"one": service(one), "two": service(two, {"prefix": "/other"})}
            async with serving(tmp_path, both) as served, dial(served.port) as wire:
                for _ in range(3):
                    assert (await ask(wire)).body == b"one"
                await served.reload(services={"one": service(one, {"prefix": "/other"}), "two": service(two)})
                assert (await ask(wire)).body == b"two"
                assert (await ask(wire, target="/other/x")).body == b"one"

    async def test_another_url_of_a_service(self, tmp_path: Path) -> None:
        async with (
            upstream(answering(ok(b"one"))) as one,
            upstream(answering(ok(b"two"))) as two,
            serving(tmp_path, {"madre": service(one)}) as served,
            dial(served.port) as wire,
        ):
            for _ in range(3):
                assert (await ask(wire)).body == b"one"
            await served.reload(services={"madre": service(two, token="of-the-service")})
            assert (await ask(wire)).body == b"two"
            assert two.requests[-1].get("X-VX11-Token") == "of-the-service"
            assert not any(request.get("X-VX11-Token") for request in one.requests)

    async def test_trusted_proxies(self, tmp_path: Path) -> None:
        async with upstream(answering(ok(b"in"))) as up, serving(tmp_path, {"madre": service(up)}) as served:
            server = served.data["server"]
            async with dial(served.port) as wire:

                async def seen() -> str | None:
                    await ask(wire, "X-Forwarded-For: 192.0.2.7")
                    return up.requests[-1].get("X-Forwarded-For")

                assert {await seen() for _ in range(3)} == {"127.0.0.1"}
                await served.reload(server={**server, "trusted_proxies": ["127.0.0.0/8"]})
                assert {await seen() for _ in range(2)} == {"192.0.2.7, 127.0.0.1"}
                await served.reload(server=server)
                assert {await seen() for _ in range(2)} == {"127.0.0.1"}

    async def test_cors(self, tmp_path: Path) -> None:
        async with (
            upstream(answering(ok(b"in"))) as up,
            serving(tmp_path, {"madre": service(up)}) as served,
            dial(served.port) as wire,
        ):

            async def allowed(target: str) -> str | None:
                return (await ask(wire, f"Origin: {ORIGIN}", target=target)).get("Access-Control-Allow-Origin")

            for target in ("/madre/x", "/health", "/nowhere"):
                assert {await allowed(target) for _ in range(3)} == {None}
            await served.reload(cors={"origins": [ORIGIN]})
            for target in ("/madre/x", "/health", "/nowhere"):
                assert {await allowed(target) for _ in range(3)} == {ORIGIN}
            await served.reload(cors={"origins": []})
            for target in ("/madre/x", "/health", "/nowhere"):
                assert {await allowed(target) for _ in range(3)} == {None}

    async def test_a_removed_service(self, tmp_path: Path) -> None:
        async with (
            upstream(answering(ok(b"in"))) as up,
            serving(tmp_path, {"madre": service(up)}) as served,
            dial(served.port) as wire,
        ):
            for _ in range(3):
                assert (await ask(wire)).status == 200
            await served.reload(services={})
            assert (await ask(wire)).status == 404
            assert (await ask(wire, target="/madre/health")).status == 404
            assert (await ask(wire, target="/vx11/history/madre")).status == 404

    async def test_response_headers_of_a_route(self, tmp_path: Path) -> None:
        async with (
            upstream(answering(ok(b"in"))) as up,
            serving(tmp_path, {"madre": service(up)}) as served,
            dial(served.port) as wire,
        ):
            assert {(await ask(wire)).get("X-Rule") for _ in range(3)} == {None}
            ruled = service(up, {"prefix": "/madre", "set_response_headers": {"X-Rule": "set"}})
            await served.reload(services={"madre": ruled})
            assert {(await ask(wire)).get("X-Rule") for _ in range(3)} == {"set"}


async def test_what_a_reload_says(tmp_path: Path) -> None:
    async with upstream(answering(ok())) as up, upstream(answering(ok())) as new:
        before = {
            "madre": service(up),
            "hermes": service(up, {"prefix": "/hermes"}),
            "old": service(up, {"prefix": "/old"}),
        }
        async with serving(tmp_path, before) as served:
            first = served.gateway.generations.current
            after = {
                "madre": service(up),
                "hermes": service(new, {"prefix": "/hermes"}),
                "fresh": service(up, {"prefix": "/f"}),
            }
            generation = await served.reload(
                services=after, server={**served.data["server"], "port": 1, "keepalive": 5}, limits={"body": 10}
            )
            changes = generation.changes
            assert (changes.added, changes.removed) == (("fresh",), ("old",))
            assert (changes.changed, changes.kept) == (("hermes",), ("madre",))
            assert set(changes.changed_keys) == {"server.keepalive", "limits.body"}
            assert set(changes.needs_restart) == {"server.port"}
            current = served.gateway.generations.current
            assert current.number == 2
            assert current.etag != first.etag
            assert served.gateway.config.limits.body == 10
            assert served.gateway.config.server.port == 0, "what only a restart applies is not served"


async def test_prepare_changes_nothing_and_only_the_first_of_two_is_swapped(tmp_path: Path) -> None:
    async with upstream(answering(ok(b"in"))) as up, serving(tmp_path, {"madre": service(up)}) as served:
        one, two = await served.prepare(services={}), await served.prepare(services={"other": service(up)})
        async with dial(served.port) as wire:
            assert (await ask(wire)).status == 200
            served.gateway.swap(one)
            assert (await ask(wire)).status == 404
            with pytest.raises(StaleGenerationError):
                served.gateway.swap(two)
            with pytest.raises(StaleGenerationError):
                served.gateway.swap(one)
            assert (await ask(wire)).status == 404


async def test_tokens_that_change_meanwhile_are_no_reason_to_refuse_a_reload(tmp_path: Path) -> None:
    async with upstream(answering(ok())) as up, serving(tmp_path, {"madre": service(up)}) as served:
        generations = served.gateway.generations
        before = generations.current
        async with asyncio.TaskGroup() as tasks:
            preparing = tasks.create_task(served.prepare(services={}))
            await asyncio.sleep(0)
            generations.use_tokens(before.tokens)
            assert generations.current is not before
        served.gateway.swap(preparing.result())
        assert generations.current.number == before.number + 1


async def test_the_etag_is_that_of_the_configuration(tmp_path: Path) -> None:
    async with serving(tmp_path, {}) as served:
        first = served.gateway.generations.current.etag
        await served.reload(limits={"body": 1})
        assert served.gateway.generations.current.etag != first
        await served.reload(limits={})
        assert served.gateway.generations.current.etag == first
        await served.reload([hash_token("x")])
        assert served.gateway.generations.current.etag != first


async def test_health_is_kept_and_what_is_new_is_probed_at_once(tmp_path: Path) -> None:
    async with (
        upstream(answering(ok(b'{"status":"ok"}'))) as up,
        upstream(answering(ok(b'{"status":"ok"}'))) as new,
        serving(tmp_path, {"madre": service(up)}, probes=True) as served,
    ):
        board = served.gateway.health_service.board
        await eventually(lambda: board.service("madre").health is Health.UP)
        since, breaker = board.service("madre").since, served.gateway.health_service.breakers.of
        endpoint = board.service("madre").upstreams[0].upstream
        known = breaker(endpoint)
        await served.reload(
            services={"madre": service(up, probe={"timeout": 9}), "fresh": service(new, {"prefix": "/fresh"})}
        )
        assert board.service("madre").health is Health.UP
        assert board.service("madre").since == since
        assert breaker(endpoint) is known
        await eventually(lambda: board.service("fresh").health is Health.UP)
        await served.reload(services={"fresh": service(new, {"prefix": "/fresh"})})
        with pytest.raises(KeyError):
            board.service("madre")
        probes = len(up.requests)
        await served.reload(services={"madre": service(up)})
        await eventually(lambda: board.service("madre").health is Health.UP and len(up.requests) > probes)


def name_of(one: object) -> str:
    """That of its type, with the module's, which is no text where a type of C defines it."""
    return f"{type(one).__module__}.{type(one).__name__}"


def alive() -> int:
    """The objects of the gateway's and aiohttp's types that the garbage collector knows."""
    return sum(name_of(one).startswith(OF_OURS) for one in gc.get_objects())


async def test_a_reload_makes_few_objects_for_a_service(tmp_path: Path) -> None:
    """The event loop stands still while the garbage collector walks through them."""

    async def made(count: int, folder: Path) -> int:
        folder.mkdir()
        async with upstream(answering(ok(b"in"))) as up:
            services = {f"s{number}": service(up, {"prefix": f"/s{number}"}) for number in range(count)}
            async with serving(folder, services) as served:
                await served.reload()
                gc.collect()
                gc.disable()
                try:
                    before = alive()
                    generation = await served.prepare(services={**services, "more": service(up, {"prefix": "/more"})})
                    prepared = alive()
                    served.gateway.swap(generation)
                    return prepared - before
                finally:
                    gc.enable()

    few, many = await made(20, tmp_path / "few"), await made(220, tmp_path / "many")
    assert (many - few) / 200 <= MOST_OBJECTS


async def test_what_a_reload_replaces_needs_no_collection(tmp_path: Path, file: Path) -> None:
    """A large generation is frozen: what the reference counts do not free then stays for good."""
    async with upstream(answering(ok(b"one"))) as one, upstream(answering(ok(b"two"))) as two:

        def sections(number: int) -> dict[str, Any]:
            """Another configuration for each number, with every kind of part."""
            first, second = (f"http://127.0.0.1:{up.port}" for up in ((one, two) if number % 2 else (two, one)))
            group = {"set": "/model", "targets": [{"name": "small"}, {"name": f"large-{number}"}]}
            route = {"prefix": "/madre", "allow": ["127.0.0.0/8"], "limits": [{"rate": f"{99 + number}/s"}]}
            services: dict[str, Any] = {
                "madre": {"url": first, "routes": [{**route, "hedge": True, "slow": 1 + number}]},
                "pair": {
                    "urls": [first, second],
                    "weights": [1, 1 + number],
                    "sticky": True,
                    "depends_on": ["madre"],
                    "routes": [{"prefix": "/pair"}],
                },
                "named": {"url": f"http://{'localhost' if number % 2 else '127.0.0.1'}:{one.port}"},
                "beat": {"url": first, "probe": {"kind": "heartbeat", "silence": 60 + number}},
                "switch": {
                    "url": second,
                    "routes": [{"prefix": "/switch", "rotation": group}],
                    "probe": {"kind": "none"},
                },
                **({"new": {"url": second, "concurrency": 9, "enabled": number == 3}} if number % 2 else {}),
            }
            webhooks = {f"ops-{number}": {"url": "http://127.0.0.1:9/x"}}
            return {
                "services": services,
                "cors": {"origins": [f"https://{number}.example"]},
                "alerts": {"webhooks": webhooks},
                "limits": {"connections": 1000 + number},
            }

        async with (
            serving(tmp_path, probes=True, database={"url": f"sqlite:///{file}"}, **sections(0)) as served,
            dial(served.port) as wire,
            dial(served.port) as waiting,
        ):
            # A native request that is in flight during all of them: the body that it needs does not come.
            head = f"POST /events/ingest HTTP/1.1\r\nHost: localhost\r\nX-VX11-Token: {TOKEN}\r\nContent-Length: 9\r\n"
            await waiting.send(f"{head}Content-Type: application/json\r\n\r\n".encode())
            gc.collect()
            gc.disable()
            try:
                for number in range(1, 5):
                    for target in ("/madre/x", "/pair/x", "/switch/x", "/health", "/events", "/metrics"):
                        assert (await ask(wire, target=target)).status == 200
                    served.hashes = [*served.hashes, hash_token(str(number))]
                    await served.reload(served.hashes, **sections(number))
                assert garbage() == Counter()
            finally:
                gc.enable()


def garbage() -> Counter[str]:
    """The types of the objects of the gateway and of aiohttp that only a collection would free."""
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.collect()
        return Counter(name for name in map(name_of, gc.garbage) if name.startswith(OF_OURS))
    finally:
        gc.set_debug(0)
        gc.garbage.clear()


async def test_a_turn_of_the_loop_reports_a_few_of_the_services_that_a_reload_has_changed(tmp_path: Path) -> None:
    names = [f"s{number}" for number in range(5 * TURN)]
    address = "http://127.0.0.1:9"
    async with serving(
        tmp_path, {name: {"url": address, "probe": {"kind": "none"}} for name in names}, probes=True
    ) as served:
        generation = await served.prepare(services={name: {"url": address, "enabled": False} for name in names})
        health = served.gateway.health_service
        turns, reported, stored = [0], list[tuple[int, str]](), list[tuple[int, str]]()

        def turned() -> None:
            turns[0] += 1
            if len(reported) < len(names):
                asyncio.get_running_loop().call_soon(turned)

        health.on_transition.append(lambda transition, _: reported.append((turns[0], transition.service)))
        record = health._rows._record

        def recorded(views: Sequence[ServiceView]) -> None:
            stored.extend((turns[0], view.name) for view in views)
            record(views)

        health._rows._record = recorded
        asyncio.get_running_loop().call_soon(turned)
        served.gateway.swap(generation)
        assert all(health.board.service(name).health is Health.OFF for name in names), "the reload itself is whole"
        assert not reported, "later turns report it"
        assert len(stored) <= ROWS_AT_ONCE
        await eventually(lambda: len(reported) == len(names) and {name for _, name in stored} == set(names))
        assert [name for _, name in reported] == names, "in their order"
        assert max(Counter(turn for turn, _ in reported).values()) <= 2 * TURN


@pytest.mark.parametrize(
    ("other", "most"), [({"url": "http://127.0.0.1:10"}, 8), ({"enabled": False}, 2)], ids=["other URLs", "off"]
)
async def test_a_swap_does_little_for_each_service_that_it_changes(
    tmp_path: Path, other: dict[str, Any], most: float
) -> None:
    """With a thousand services it shall hold the event loop for less than 10 ms: what can wait is done in later turns."""
    found = []
    for count in (50, 250):
        services = {f"s{number}": {"url": "http://127.0.0.1:9", "probe": {"kind": "none"}} for number in range(count)}
        async with serving(tmp_path, services, probes=True) as served:
            generation = await served.prepare(services={name: {**one, **other} for name, one in services.items()})
            with counting_calls() as calls:
                served.gateway.swap(generation)
            found.append(calls.total)
    assert 0 < (found[1] - found[0]) / 200 <= most


async def test_the_end_reports_what_waits(tmp_path: Path) -> None:
    names = [f"s{number}" for number in range(5 * TURN)]
    reported: list[str] = []
    async with serving(tmp_path, {name: {"url": "http://127.0.0.1:9"} for name in names}, probes=True) as served:
        generation = await served.prepare(
            services={name: {"url": "http://127.0.0.1:9", "enabled": False} for name in names}
        )
        served.gateway.health_service.on_transition.append(
            lambda one, _: reported.append(one.service) if one.after is Health.OFF else None
        )
        served.gateway.swap(generation)
        assert len(reported) < len(names)
    assert sorted(reported) == sorted(names)


@pytest.mark.parametrize("stops", [False, True])
async def test_the_connections_of_all_replaced_endpoints_close(tmp_path: Path, stops: bool) -> None:
    """A few in one turn, or all at the end of a gateway that stops first."""
    count = 3 * TURN
    async with upstream(answering(ok(b"one"))) as one, upstream(answering(ok(b"two"))) as two:

        def services(up: Upstream) -> dict[str, Any]:
            return {f"s{number}": service(up, {"prefix": f"/s{number}"}) for number in range(count)}

        async with serving(tmp_path, services(one)) as served, dial(served.port) as wire:
            for number in range(count):
                assert (await ask(wire, target=f"/s{number}/x")).body == b"one"
            assert (one.connections, one.gone) == (count, 0)
            await served.reload(services=services(two))
            if not stops:
                assert (await ask(wire, target="/s1/x")).body == b"two"
                await one.until(lambda: one.gone == count)
        await one.until(lambda: one.gone == count)


async def test_the_log_names_some_of_many_services_and_the_event_all(tmp_path: Path) -> None:
    async with serving(tmp_path, {}) as served:
        recorded: list[dict[str, Any]] = []
        served.gateway.generations._parts = replace(
            served.gateway.generations._parts, record=lambda type_, **members: recorded.append(members)
        )
        services = {f"s{number}": {"url": "http://127.0.0.1:9"} for number in range(30)}
        with capture_logs() as logs:
            await served.reload(services=services)
        (line,) = (one for one in logs if one["event"] == "configuration reloaded")
        assert line["added"] == [*[f"s{number}" for number in range(20)], "and 10 more"]
        assert recorded[0]["added"] == [*services]


@pytest.mark.parametrize("kind", [RouteNetworks, RequestLimits])
async def test_what_limits_all_routes_is_made_beside_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Any]
) -> None:
    """With 1,000 services it held the loop for 14 ms in each reload and change, and for 90 where routes have rules."""
    threads: list[int] = []

    class Watched(kind):  # type: ignore[misc]
        def __init__(self, *given: Any) -> None:
            threads.append(threading.get_ident())
            super().__init__(*given)

    async with serving(tmp_path, {"one": {"url": "http://127.0.0.1:9"}}) as served:
        monkeypatch.setattr(f"tentaculo.gateway.generation.{kind.__name__}", Watched)
        await served.reload(services={"one": {"url": "http://127.0.0.1:8"}})
    assert len(threads) == 1
    assert threads[0] != threading.get_ident()


async def test_tokens_that_stay_are_kept_as_they_are(tmp_path: Path) -> None:
    async with serving(tmp_path, {"one": {"url": "http://127.0.0.1:9"}}) as served:
        generations = served.gateway.generations
        before = generations.current.tokens
        await served.reload(services={"one": {"url": "http://127.0.0.1:8"}})
        assert generations.current.tokens is before
        # A scope may name a service by its alias.
        await served.reload(services={"one": {"url": "http://127.0.0.1:8", "aliases": ["uno"]}})
        assert generations.current.tokens is not before
        before = generations.current.tokens
        await served.reload([hash_token(TOKEN)])
        assert generations.current.tokens is not before
        assert not generations.current.tokens.accepts(OTHER.encode())
