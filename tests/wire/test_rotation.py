"""Routes with a group of targets: what of a request is changed, where it goes, and what is learned of its response."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tentaculo.config.services import BreakerSettings
from tentaculo.model.target_group import Chosen, TargetRecord
from tentaculo.proxy.rotated_exchange import RotatedExchange
from tentaculo.proxy.target_group import Veto
from tests.conftest import Live, Start
from tests.support.reloading import serving
from tests.support.waits import eventually
from tests.support.wire import Reader, Request, Response, Upstream, Writer, answering, dial, ok, upstream
from tests.wire.conftest import Service

pytestmark = pytest.mark.usefixtures("both_ways")

MODELS: dict[str, Any] = {
    "set": "/model",
    "targets": [{"name": "A"}, {"name": "B"}],
    "success_at": "/status",
    "latency_at": "/latency_ms",
    "cost_at": "/cost",
    "cost_limit": 2.0,
    "cost_weight": 0.5,
}
JSON = b"Content-Type: application/json\r\n"


def reply(**members: object) -> bytes:
    return ok(json.dumps(members).encode(), b"Content-Type: application/json")


def post(body: bytes, *lines: bytes, path: bytes = b"/s/chat") -> bytes:
    """A request with a JSON body."""
    head = b"POST %b HTTP/1.1\r\nHost: h\r\n%bContent-Length: %d\r\n" % (path, JSON, len(body))
    return head + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


@asynccontextmanager
async def models(
    start: Start, service: Service, answer: bytes | Callable[[Request], Any], **rotation: Any
) -> AsyncIterator[tuple[Live, Upstream]]:
    """A gateway with two models behind `/s`, and the service that has both."""
    async with upstream(answering(answer)) as up:
        live = await start(service(up.port, rotation=MODELS | rotation))
        yield live, up


def rotation_of(live: Live, number: int = -1) -> TargetRecord:
    found = live.records[number].rotation
    assert found is not None
    return found


async def exchange(live: Live, data: bytes) -> Response:
    async with dial(live.port) as wire:
        await wire.send(data)
        return await wire.response()


async def test_one_value_is_set_and_no_other_byte_is_touched(start: Start, service: Service) -> None:
    async with models(start, service, reply(status="ok", latency_ms=0)) as (live, up):
        body = b'{ "a" : [1.0e2,\t{"model":"inner"}] ,"model" : null, "t":"\\u00e9\xc3\xa9" }\n'
        await exchange(live, post(body, b"Content-Digest: sha-256=:AAAA:", b"X-Other: 1"))
        chosen = rotation_of(live)
        [seen] = up.requests
        assert seen.body == body.replace(b'"model" : null', b'"model" : "%b"' % chosen.target.encode())
        assert seen.get("content-length") == str(len(seen.body))
        assert seen.get("content-digest") is None
        assert seen.get("x-other") == "1"
        assert chosen.chosen is Chosen.LEARNED
        assert chosen.probability == 0.5


@pytest.mark.parametrize("body", [b"{}", b' { "stream":false}', b'{"model":""}', b'{"model":"auto"}'])
async def test_a_value_that_names_nothing_is_set(start: Start, service: Service, body: bytes) -> None:
    async with models(start, service, reply(status="ok")) as (live, up):
        await exchange(live, post(body))
        assert json.loads(up.requests[0].body) == {**json.loads(body), "model": rotation_of(live).target}


async def test_a_chunked_body_gets_a_length(start: Start, service: Service) -> None:
    async with models(start, service, reply(status="ok")) as (live, up):
        chunks = b'3\r\n{"a\r\n5\r\n": 1}\r\n0\r\nContent-Digest: x\r\n\r\n'
        await exchange(
            live,
            b"POST /s/chat HTTP/1.1\r\nHost: h\r\n"
            + JSON
            + b"Transfer-Encoding: chunked\r\nTrailer: Content-Digest\r\n\r\n"
            + chunks,
        )
        [seen] = up.requests
        assert json.loads(seen.body) == {"a": 1, "model": rotation_of(live).target}
        assert seen.get("content-length") == str(len(seen.body))
        assert seen.get("transfer-encoding") is None
        assert seen.get("trailer") is None


async def test_a_body_that_arrives_later_is_asked_for_and_changed(start: Start, service: Service) -> None:
    async with models(start, service, reply(status="ok")) as (live, up), dial(live.port) as wire:
        head, body = post(b'{"a":1}', b"Expect: 100-continue").split(b"\r\n\r\n")
        await wire.send(head + b"\r\n\r\n")
        assert (await wire.head()).status == 100
        await wire.send(body[:3])
        await wire.send(body[3:])
        assert (await wire.response()).status == 200
        [seen] = up.requests
        assert json.loads(seen.body) == {"a": 1, "model": rotation_of(live).target}
        assert seen.get("expect") is None


async def test_a_body_that_ends_while_the_gateway_holds_too_many_bytes_is_sent_whole(
    start: Start, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was taken for whole and empty, and the service waited for its bytes."""
    read = RotatedExchange._read_body

    async def read_later(self: RotatedExchange) -> None:
        await eventually(self.request.content.is_eof)
        memory = self.shared.needs.turns.memory
        memory.held += memory.limit
        try:
            await read(self)
        finally:
            memory.held -= memory.limit

    monkeypatch.setattr(RotatedExchange, "_read_body", read_later)
    async with models(start, service, reply(status="ok")) as (live, up), dial(live.port) as wire:
        whole = post(b'{"a":1}')
        await wire.send(whole[:-3])
        await eventually(lambda: live.gateway.proxy.traffic.in_flight)
        await wire.send(whole[-3:])
        assert (await wire.response()).status == 200
        [seen] = up.requests
        assert json.loads(seen.body) == {"a": 1, "model": rotation_of(live).target}


UNCHANGED = {
    "form": (b"a=1&model=", b"application/x-www-form-urlencoded", ()),
    "broken": (b'{"model":', b"application/json", ()),
    "list": (b'["model"]', b"application/json", ()),
    "twice": (b'{"model":"","model":""}', b"application/json", ()),
    "compressed": (gzip.compress(b"{}", mtime=0), b"application/json", (b"Content-Encoding: gzip",)),
    "signed": (b"{}", b"application/json", (b"Signature-Input: sig1=()", b"Content-Digest: sha-256=:AAAA:")),
    "unknown model": (b'{"model":"C"}', b"application/json", ()),
    "a number": (b'{"model":3}', b"application/json", ()),
    "large": (b'{"t":"%b"}' % (b"x" * (1024 * 1024)), b"application/json", ()),
}


@pytest.mark.parametrize("name", UNCHANGED)
@pytest.mark.parametrize("is_chunked", [False, True])
async def test_what_cannot_be_changed_goes_to_the_first_target_as_it_came(
    start: Start, service: Service, name: str, is_chunked: bool
) -> None:
    body, kind, lines = UNCHANGED[name]
    async with models(start, service, reply(status="ok")) as (live, up):
        framing = b"Transfer-Encoding: chunked" if is_chunked else b"Content-Length: %d" % len(body)
        head = [b"POST /s/chat HTTP/1.1", b"Host: h", b"Content-Type: " + kind, framing, *lines]
        data = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if is_chunked else body
        assert (await exchange(live, b"\r\n".join(head) + b"\r\n\r\n" + data)).status == 200
        [seen] = up.requests
        assert seen.body == body
        assert live.records[-1].received == len(body)
        for line in (*lines, framing):
            assert seen.get(line.partition(b":")[0].decode()) == line.partition(b": ")[2].decode()
        assert rotation_of(live) == TargetRecord("A", Chosen.FIRST)


async def test_a_caller_that_names_a_target_gets_it(start: Start, service: Service) -> None:
    async with models(start, service, reply(status="ok")) as (live, up):
        body = b'{"model": "B"}'
        await exchange(live, post(body))
        assert up.requests[0].body == body
        assert rotation_of(live) == TargetRecord("B", Chosen.NAMED)
        await exchange(live, post(b"{}", b"X-Tentaculo-Target: B"))
        assert json.loads(up.requests[1].body) == {"model": "B"}
        assert up.requests[1].get("x-tentaculo-target") is None
        assert rotation_of(live) == TargetRecord("B", Chosen.NAMED)
        response = await exchange(live, post(b"{}", b"X-Tentaculo-Target: C"))
        assert response.status == 400
        assert len(up.requests) == 2
        assert [target.learned for target in live.gateway.proxy.groups[0].targets] == [0, 0]


REWARDS: dict[str, tuple[bytes, float | None]] = {
    "good": (reply(status="ok", latency_ms=5000, cost=1), 1 - 0.2 * 0.5 - 0.5 * 0.5),
    "partial": (reply(status="partial", latency_ms=1), 0.0),
    "false": (reply(status=False), 0.0),
    "error status": (ok(b"{}", b"Content-Type: application/json", status=b"500 Failed"), 0.0),
    "rate limited": (ok(b"{}", status=b"429 Too Many Requests"), 0.0),
    "mad numbers": (reply(status="ok", latency_ms=-1, cost="much"), None),
    "numbers that no limit is above": (reply(status="ok", latency_ms=10**400, cost=1e12), 1 - 0.2 - 0.5),
    # As the json of Python writes them.
    "NaN beside partial": (reply(status="partial", quality=float("nan")), 0.0),
    "NaN": (reply(status="ok", latency_ms=float("nan"), cost=float("nan")), None),
    "Infinity": (reply(status="ok", latency_ms=float("inf"), cost=0), 1 - 0.2),
    "a number as text": (reply(status="ok", latency_ms="5000", cost="1"), None),
    "gzip": (
        ok(gzip.compress(b'{"status": "partial"}'), b"Content-Type: application/json", b"Content-Encoding: gzip"),
        0.0,
    ),
    "too large to read": (ok(b'{"status":"partial","t":"%b"}' % (b"x" * 70_000)), None),
    "stream": (ok(b'data: {"status":"partial"}\n\n', b"Content-Type: text/event-stream"), None),
    "no HTTP": (b"nonsense\r\n\r\n", 0.0),
}


@pytest.mark.parametrize("name", REWARDS)
async def test_the_response_is_worth_what_it_says(start: Start, service: Service, name: str) -> None:
    response, reward = REWARDS[name]
    async with models(start, service, response) as (live, _):
        await exchange(live, post(b"{}"))
        found = rotation_of(live)
        assert found.reward is not None
        if reward is None:
            assert found.reward > 0.9, "success, and a latency that was measured"
        else:
            assert found.reward == pytest.approx(reward, abs=1e-3)
        [target] = [one for one in live.gateway.proxy.groups[0].targets if one.learned]
        assert target.name == found.target


async def test_the_copy_holds_nothing_back(start: Start, service: Service) -> None:
    """Each piece of a response reaches the client before the service sends the next one."""
    first, whole = b'{"status": "partial"', b'{"status": "partial", "x": 1}'

    async def script(reader: Reader, writer: Writer, state: Upstream) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(whole), first))
        await reader.readuntil(b"go on")
        writer.write(whole[len(first) :])

    async with upstream(script) as up:
        live = await start(service(up.port, rotation={**MODELS}))
        async with dial(live.port) as wire:
            await wire.send(post(b"{}"))
            await wire.head()
            assert await wire.reader.readexactly(len(first)) == first


async def test_it_learns_which_one_is_better(start: Start, service: Service) -> None:
    def answer(request: Request) -> bytes:
        return reply(status="ok" if json.loads(request.body)["model"] == "B" else "partial", latency_ms=1)

    async with models(start, service, answer, floor=0.0) as (live, up):
        async with dial(live.port) as wire:
            for _ in range(60):
                await wire.send(post(b"{}"))
                await wire.response()
        asked = [json.loads(request.body)["model"] for request in up.requests]
        assert asked[-20:] == ["B"] * 20
        [view] = [group.view() for group in live.gateway.proxy.groups]
        assert [target.calls for target in view.targets] == [asked.count("A"), asked.count("B")]
        assert view.targets[1].mean == pytest.approx(1, abs=0.01)
        assert view.targets[1].probability > 0.99


def fleet(one: int, other: int, **rotation: Any) -> dict[str, dict[str, Any]]:
    """A route of the service `s` that leads to itself and to the service `t`."""
    targets = [{"name": "A"}, {"name": "B", "service": "t", "path": "/b"}]
    route = {"prefix": "/s", "strip": True, "rotation": {"targets": targets, "floor": 0.5, **rotation}}
    breaker = {"failures": 1, "open_for": 100}
    return {
        "s": {"url": f"http://127.0.0.1:{one}", "routes": [route], "breaker": breaker},
        "t": {"url": f"http://127.0.0.1:{other}", "token": "of-t", "breaker": breaker},
    }


async def test_targets_may_be_services_and_paths(start: Start) -> None:
    async with upstream(answering(ok(b"one"))) as one, upstream(answering(ok(b"other"))) as other:
        live = await start(fleet(one.port, other.port))
        async with dial(live.port) as wire:
            for name, up, target in (("A", one, "/chat?q=1"), ("B", other, "/b/chat?q=1")):
                line = f"X-Tentaculo-Target: {name}".encode()
                await wire.send(post(b"anything", live.auth.strip(), line, path=b"/s/chat?q=1"))
                await wire.response()
                [seen] = up.requests
                assert (seen.target, seen.body) == (target, b"anything")
                assert rotation_of(live) == TargetRecord(name, Chosen.NAMED)
        assert other.requests[0].get("x-vx11-token") == "of-t"
        assert [record.service for record in live.records] == ["s", "t"]


OPEN = {
    "prefix": "/s",
    "strip": True,
    "auth": "none",
    "rotation": {"targets": [{"name": "A"}, {"name": "B", "path": "/b"}]},
}


async def statuses(live: Live, *paths: bytes, lines: tuple[bytes, ...] = ()) -> list[int]:
    return [(await exchange(live, post(b"", *lines, b"X-Tentaculo-Target: B", path=path))).status for path in paths]


@pytest.mark.parametrize("is_other", [False, True], ids=["the same service", "another one"])
async def test_a_group_does_not_lead_around_a_route_that_needs_a_token(start: Start, is_other: bool) -> None:
    """The target of an open route reached what another route opens to tokens only."""
    async with upstream(answering(ok())) as one, upstream(answering(ok())) as other:
        guarded = [{"prefix": "/guarded", "to": "/b/secret"}, {"prefix": "/b/open", "auth": "none"}]
        targets = [{"name": "A"}, {"name": "B", "path": "/b", **({"service": "t"} if is_other else {})}]
        first = {**OPEN, "rotation": {"targets": targets}}
        services = {
            "s": {"url": f"http://127.0.0.1:{one.port}", "routes": [first, *([] if is_other else guarded)]},
            "t": {"url": f"http://127.0.0.1:{other.port}", "routes": guarded if is_other else []},
        }
        live = await start(services)
        paths = b"/s/open", b"/s/secret", b"/s/%73ecret/x", b"/s//secret", b"/s/x/..%2fsecret"
        assert await statuses(live, *paths) == [200, 401, 401, 401, 400]
        assert await statuses(live, *paths[:2], lines=(live.auth.strip(),)) == [200, 200]
        assert [request.target for request in (*one.requests, *other.requests)] == ["/b/open", "/b/open", "/b/secret"]


async def test_a_group_does_not_lead_around_the_networks_of_a_route(start: Start) -> None:
    async with upstream(answering(ok())) as one, upstream(answering(ok())) as other:
        targets = [{"name": "A"}, {"name": "B", "path": "/b", "service": "t"}]
        services = {
            "s": {"url": f"http://127.0.0.1:{one.port}", "routes": [{**OPEN, "rotation": {"targets": targets}}]},
            "t": {
                "url": f"http://127.0.0.1:{other.port}",
                "routes": [{"prefix": "/inner", "to": "/b/inner", "auth": "none", "allow": ["10.0.0.0/8"]}],
            },
        }
        live = await start(services, server={"trusted_proxies": ["127.0.0.1"]})
        inside = (b"X-Forwarded-For: 10.1.1.1",)
        paths = b"/s/x", b"/s/inner", b"/s/%69nner/x"
        assert await statuses(live, *paths) == [200, 403, 403]
        assert await statuses(live, *paths, lines=inside) == [200, 200, 200]


PATHS = [
    ("/s", "/models/b"),
    ("/s/", "/models/b/"),
    ("/s?q=/x", "/models/b?q=/x"),
    ("/s/chat?q=1", "/models/b/chat?q=1"),
]


@pytest.mark.parametrize("way", [{}, {"strip": False, "to": "/v1"}, {"strip": False}], ids=["strip", "to", "as it is"])
@pytest.mark.parametrize(("path", "seen"), PATHS)
async def test_the_path_of_a_target_takes_the_place_of_the_prefix_alone(
    start: Start, service: Service, way: dict[str, Any], path: str, seen: str
) -> None:
    targets = [{"name": "A"}, {"name": "B", "path": "/models/b/"}]
    async with upstream(answering(ok())) as up:
        live = await start(service(up.port, auth="token", **way, rotation={"targets": targets}))
        await exchange(live, post(b"", live.auth.strip(), b"X-Tentaculo-Target: B", path=path.encode()))
        assert [request.target for request in up.requests] == [seen]


async def test_an_asterisk_is_the_path_of_no_target(start: Start, service: Service) -> None:
    targets = [{"name": "A"}, {"name": "B", "path": "/models/b"}]
    async with upstream(answering(ok())) as up:
        live = await start(service(up.port, prefix="/", auth="token", rotation={"targets": targets}))
        await exchange(live, b"OPTIONS * HTTP/1.1\r\nHost: h\r\n%bX-Tentaculo-Target: B\r\n\r\n" % live.auth)
        assert [request.target for request in up.requests] == ["*"]


async def test_a_target_whose_breaker_is_open_is_not_chosen(start: Start, refusing_port: int) -> None:
    async with upstream(answering(ok(b"one"))) as one:
        live = await start(fleet(one.port, refusing_port))
        async with dial(live.port) as wire:
            await wire.send(post(b"", live.auth.strip(), b"X-Tentaculo-Target: B"))
            assert (await wire.response()).status == 502
            for _ in range(20):
                await wire.send(post(b"", live.auth.strip()))
                assert (await wire.response()).body == b"one"
                assert rotation_of(live) == TargetRecord("A", Chosen.LEARNED, 1.0, rotation_of(live).reward)
        [view] = [group.view() for group in live.gateway.proxy.groups]
        assert [target.probability for target in view.targets] == [1.0, 0.0]


async def test_a_target_that_is_off_is_not_chosen_also_if_the_route_is_its_own(
    start: Start, refusing_port: int
) -> None:
    async with upstream(answering(ok(b"other"))) as other:
        services = fleet(refusing_port, other.port)
        services["s"]["enabled"] = False
        live = await start(services)
        async with dial(live.port) as wire:
            for line in (b"X-Any: 1", b"X-Tentaculo-Target: B"):
                await wire.send(post(b"", live.auth.strip(), line))
                assert (await wire.response()).body == b"other"
            await wire.send(post(b"", live.auth.strip(), b"X-Tentaculo-Target: A"))
            refused = await wire.response()
            assert (refused.status, json.loads(refused.body)["service"]) == (503, "s")
    services = fleet(1, refusing_port)
    services["s"]["enabled"] = False
    live = await start(services)
    for error in ("connect_failed", "circuit_open"):
        response = await exchange(live, post(b"", live.auth.strip()))
        problem = json.loads(response.body)
        assert (problem["error"], problem["service"]) == (error, "t"), "the target that is on says why"
    services["t"]["enabled"] = False
    live = await start(services)
    refused = await exchange(live, post(b"", live.auth.strip()))
    assert (refused.status, json.loads(refused.body)["error"]) == (503, "service_off")


@pytest.mark.usefixtures("notices_soon")
async def test_a_failure_of_the_target_is_worth_nothing_and_a_client_that_leaves_teaches_nothing(
    start: Start, refusing_port: int
) -> None:
    async def hangs(reader: Reader, writer: Writer, state: Upstream) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await state.note()
        await reader.read()

    async with upstream(hangs) as up:
        live = await start(fleet(up.port, refusing_port, floor=0.0))
        group = live.gateway.proxy.groups[0]
        group.chooser.restore(0, 100, 0)
        group.chooser.restore(1, 100, 100)
        await exchange(live, post(b"", live.auth.strip()))
        assert rotation_of(live).reward == 0
        async with dial(live.port) as wire:
            await wire.send(post(b"", live.auth.strip()))
            await up.until(lambda: bool(up.connections))
            wire.abort()
            await _ended(live, 2)
        assert live.records[-1].status == 499
        assert rotation_of(live).reward is None
        assert group.targets[0].learned == 0


@asynccontextmanager
async def one_model_hangs(
    start: Start, service: Service, **breaker: float
) -> AsyncIterator[tuple[Live, Callable[[], Awaitable[Response]]]]:
    """A gateway in front of a service whose model B never responds, and has always been the better one until now."""

    async def answer(request: Request) -> bytes:
        if json.loads(request.body)["model"] == "B":
            await asyncio.sleep(3600)
        return reply(status="ok")

    async with upstream(answering(answer)) as up:
        live = await start(service(up.port, rotation=MODELS | {"floor": 0.0}, breaker=breaker, timeout=0.2))
        group = live.gateway.proxy.groups[0]
        group.chooser.restore(0, 100, 0)
        group.chooser.restore(1, 100, 100)
        yield live, lambda: exchange(live, post(b"{}"))


async def test_a_model_that_hangs_is_left_before_the_breaker_of_all_models_opens(
    start: Start, service: Service
) -> None:
    async with one_model_hangs(start, service, failures=5, open_for=100) as (live, ask):
        assert [(await ask()).status for _ in range(8)] == [504] * 3 + [200] * 5
        assert [rotation_of(live, number).target for number in range(8)] == ["B"] * 3 + ["A"] * 5
        assert rotation_of(live).probability == 1.0
        [view] = [group.view() for group in live.gateway.proxy.groups]
        assert [target.probability for target in view.targets] == [1.0, 0.0]
        # A caller that names it still gets it.
        assert (await exchange(live, post(b'{"model":"B"}'))).status == 504
        assert (await ask()).status == 200


async def test_the_trial_of_a_breaker_that_one_model_opened_goes_to_another_model(
    start: Start, service: Service
) -> None:
    async with one_model_hangs(start, service, failures=3, open_for=0.3) as (live, ask):
        assert {one.status for one in await asyncio.gather(*[ask() for _ in range(6)])} == {504}
        balancer = live.gateway.proxy.groups[0].targets[0].plan.balancer
        assert balancer is not None
        [endpoint] = balancer.endpoints
        assert not endpoint.breaker.is_closed
        async with asyncio.timeout(20):
            while not endpoint.breaker.would_admit():
                await asyncio.sleep(0.01)
        assert (await ask()).status == 200
        assert rotation_of(live).target == "A"
        assert endpoint.breaker.is_closed


def test_a_veto_is_longer_after_each_trial_that_fails_and_ends_with_a_success() -> None:
    now = 0.0
    veto = Veto(BreakerSettings(failures=5, open_for=10), lambda: now)
    for _ in range(3):
        assert not veto.holds
        veto.begin()
        veto.note(is_failure=True)
    for begin, end in ((0.0, 20.0), (20.0, 60.0), (60.0, 140.0)):
        now = begin
        veto.begin()
        for _ in range(5):
            # A trial, and requests of before: those make it no longer.
            veto.note(is_failure=True)
        assert veto.holds
        now = end - 0.1
        assert veto.holds
        now = end
        assert not veto.holds, "a trial is due"
    veto.begin()
    assert veto.holds, "the others wait for its outcome"
    veto.note(is_failure=False)
    assert not veto.holds


async def _ended(live: Live, count: int) -> None:
    async with asyncio.timeout(20):
        while len(live.records) < count:
            await asyncio.sleep(0.01)


async def test_a_reload_ends_no_veto_unless_the_breaker_has_other_rules(tmp_path: Path) -> None:
    def services(**settings: Any) -> dict[str, Any]:
        routes = [{"prefix": "/s", "auth": "none", "rotation": MODELS}]
        return {"s": {"url": "http://127.0.0.1:9", "routes": routes, **settings}}

    async with serving(tmp_path, services()) as served:
        veto = served.gateway.proxy.groups[0].targets[0].veto
        assert veto is not None
        for _ in range(3):
            veto.note(is_failure=True)
        for settings, is_kept in (({"warn": True}, True), ({"breaker": {"open_for": 1}}, False)):
            await served.reload(services=services(**settings))
            assert [one.has_veto for one in served.gateway.proxy.groups[0].targets] == [is_kept, False]
