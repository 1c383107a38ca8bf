from __future__ import annotations

import asyncio
import gzip
import os
import resource
import socket
import ssl
import struct
import time
import tracemalloc
from contextlib import suppress
from typing import Any

import pytest

from tentaculo import __version__
from tentaculo.config.schema import Config
from tentaculo.health.evaluation import SNIPPET
from tentaculo.health.probe_client import MAX_BODY, ProbeConnection
from tentaculo.health.prober import Prober
from tentaculo.health.steady_clock import time_since_boot
from tentaculo.model.health import Health, ProbeResult
from tests.support.health import Serve, answer, by_path, fleet, says
from tests.support.waits import eventually, free_port


async def ask(config: Config, **kwargs: Any) -> ProbeResult:
    (service,) = config.services.values()
    prober = Prober(config, **kwargs)
    return await prober.probe(service.upstreams[0])


def one(port: int, **keys: Any) -> Config:
    """A fleet of one service on `port`."""
    return fleet(madre={"url": f"http://127.0.0.1:{port}", "probe": {"timeout": 2}, **keys})


def hasty(port: int, **keys: Any) -> Config:
    return one(port, probe={"timeout": 0.2}, **keys)


async def test_a_healthy_service(serve: Serve) -> None:
    result = await ask(one(await serve(says(answer()))))
    assert (result.health, result.code, result.endpoint) == (Health.UP, 200, "/health")
    assert result.latency_ms is not None
    assert 1 <= result.latency_ms < 2000
    assert result.reason == f"answered 200 in {result.latency_ms} ms"
    assert result.snippet == '{"status":"ok"}'
    assert result.checked_at.tzinfo is not None


async def test_what_it_sends(serve: Serve) -> None:
    heads: list[bytes] = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer(b"", headers=b"Set-Cookie: a=b; Path=/\r\n"))

    config = one(await serve(note), token="s3cret", host="madre.example", health="/he%2Falth")
    prober = Prober(config)
    for _ in range(2):
        result = await prober.probe(config.services["madre"].upstreams[0])
        assert result.health is Health.UP
    for head in heads:
        first, *lines = head.decode().strip().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        assert first == "GET /he%2Falth HTTP/1.1"
        assert headers["host"] == "madre.example"
        assert headers["x-vx11-token"] == "s3cret"
        assert headers["user-agent"] == f"tentaculo-link/{__version__}"
        assert headers["accept-encoding"] == "identity"
        assert headers["connection"] == "close"
        assert "cookie" not in headers
        assert "authorization" not in headers
    assert len(heads) == 2


async def test_the_date_of_a_response_is_the_clock_of_the_endpoint(serve: Serve) -> None:
    before = time_since_boot()
    head = b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
    result = await ask(one(await serve(says(answer(status="503 Busy", headers=head)))))
    assert result.health is Health.DOWN
    assert result.clock is not None
    assert result.clock.date_ms == 784_111_777_000
    assert before < result.clock.sent < result.clock.received < time_since_boot()


@pytest.mark.parametrize(
    "headers",
    [
        b"",
        b"Date: yesterday\r\n",
        b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nAge: 0\r\n",
        b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nDate: Sun, 06 Nov 1994 08:49:38 GMT\r\n",
    ],
)
async def test_no_date_a_broken_one_and_one_of_a_cache_state_nothing(serve: Serve, headers: bytes) -> None:
    assert (await ask(one(await serve(says(answer(headers=headers)))))).clock is None


async def test_no_token_where_the_service_has_none(serve: Serve) -> None:
    heads: list[bytes] = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer())

    await ask(one(await serve(note)))
    assert b"x-vx11-token" not in heads[0].lower()


async def test_an_echo_of_the_token_is_not_shown(serve: Serve) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(await reader.readuntil(b"\r\n\r\n")))

    result = await ask(one(await serve(echo), token="s3cret"))
    assert result.snippet is not None
    assert "[token]" in result.snippet
    assert "s3cret" not in repr(result)


async def test_no_proxy_from_the_environment(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    assert (await ask(one(await serve(says(answer()))))).health is Health.UP


async def test_ipv6(serve: Serve) -> None:
    try:
        port = await serve(says(answer()), "::1")
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    result = await ask(fleet(madre={"url": f"http://[::1]:{port}"}))
    assert result.health is Health.UP


async def test_paths_in_order_until_one_answers_200(serve: Serve) -> None:
    port = await serve(by_path({"/health": answer(b"", "500 No"), "/b": answer(), "/c": answer(b"not asked")}))
    result = await ask(one(port, health=["/health", "/a", "/b", "/c"]))
    assert (result.health, result.endpoint, result.snippet) == (Health.UP, "/b", '{"status":"ok"}')


async def test_no_path_answers(serve: Serve) -> None:
    result = await ask(one(await serve(by_path({})), health=["/health", "/healthz"]))
    assert (result.health, result.reason) == (Health.DOWN, "answered 404 at /health and /healthz")
    assert (result.code, result.snippet) == (404, "no")
    assert result.latency_ms is not None


@pytest.mark.parametrize("status", ["204 No Content", "206 Partial Content", "503 Service Unavailable", "999 What"])
async def test_only_200_is_up(serve: Serve, status: str) -> None:
    port = await serve(says(answer(b"" if status.startswith("204") else b'{"status":"ok"}', status)))
    result = await ask(one(port))
    assert (result.health, result.code) == (Health.DOWN, int(status[:3]))


async def test_a_redirect_is_not_followed(serve: Serve) -> None:
    visited: list[bytes] = []

    async def trap(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visited.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer())

    target = await serve(trap)
    location = b"Location: http://127.0.0.1:%d/health\r\n" % target
    result = await ask(one(await serve(says(answer(b"", "302 Found", location)))))
    assert (result.health, result.reason) == (Health.DOWN, "answered 302 at /health")
    assert visited == []


async def test_refused() -> None:
    port = free_port()
    result = await ask(one(port, health=["/health", "/healthz"]))
    assert (result.health, result.reason, result.code) == (Health.DOWN, "connection refused", None)
    assert str(port) not in result.reason


async def test_a_name_that_does_not_exist() -> None:
    result = await ask(fleet(madre={"url": "http://no-such-name.invalid:8001", "probe": {"timeout": 10}}))
    assert result.health is Health.DOWN
    assert result.reason.startswith("name not found")


async def test_silence(serve: Serve) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    start = time.monotonic()
    result = await ask(hasty(await serve(silent), health=["/health", "/healthz", "/x"]))
    assert time.monotonic() - start < 2
    assert (result.health, result.reason) == (Health.DOWN, "no response within 0.2 s at /health")
    assert (result.code, result.latency_ms) == (None, None)


async def test_a_hang_within_the_body(serve: Serve) -> None:
    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
        await reader.read()

    result = await ask(hasty(await serve(hang)))
    assert (result.health, result.code) == (Health.DOWN, 200)
    assert result.reason == "answered 200, but did not finish within 0.2 s at /health"


async def test_the_time_is_for_all_paths_together(serve: Serve) -> None:
    asked: list[bytes] = []

    async def silent_but_for_the_first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).split(b" ")[1])
        if asked[-1] == b"/0":
            writer.write(answer(b"", "404 Not Found"))
        else:
            await reader.read()

    port = await serve(silent_but_for_the_first)
    result = await ask(one(port, health=[f"/{n}" for n in range(20)], probe={"timeout": 0.5}))
    assert result.reason == "answered 404 at /0; no response within 0.5 s at /1"
    assert asked == [b"/0", b"/1"]


async def test_a_slow_path_then_a_good_one(serve: Serve) -> None:
    async def slow_then_good(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if b"/healthz" in await reader.readuntil(b"\r\n\r\n"):
            writer.write(answer())
        else:
            await reader.read()

    port = await serve(slow_then_good)
    config = hasty(port, health=["/health", "/healthz"])
    assert (await ask(config)).health is Health.DOWN, "the first path has used up the time of all"
    result = await ask(config, path_timeout=0.2)
    assert (result.health, result.endpoint) == (Health.UP, "/healthz")
    assert result.latency_ms is not None
    assert result.latency_ms < 200, "the latency is that of the path that answered"


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"", "closed the connection before it responded at /health"),
        (b"HTTP/1.1 200 OK\r\nContent-Le", "closed the connection before it responded at /health"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
            "answered 200, but the response ended too soon at /health",
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhalf",
            "answered 200, but the response ended too soon at /health",
        ),
        (
            b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
            "its response is not valid HTTP: the status line is malformed at /health",
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: abc\r\n\r\n",
            "its response is not valid HTTP: the Content-Length is not valid at /health",
        ),
        (b"HTTP/1.1 200 " + b"x" * 40_000 + b"\r\n\r\n", "the head of its response is too large at /health"),
        (b"HTTP/1.1 200 OK\r\nA: " + b"x" * 40_000 + b"\r\n\r\n", "the head of its response is too large at /health"),
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 6000 + b"\r\n", "the head of its response is too large at /health"),
    ],
)
async def test_a_broken_answer(serve: Serve, sent: bytes, reason: str) -> None:
    result = await ask(one(await serve(says(sent))))
    assert (result.health, result.reason) == (Health.DOWN, reason)


async def test_a_reset(serve: Serve) -> None:
    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    result = await ask(one(await serve(reset)))
    assert (result.health, result.reason) == (Health.DOWN, "connection reset at /health")


@pytest.mark.parametrize(
    "body",
    [
        b"[1, 2, 3]",
        b"\xff\xfe\x00 not text",
        b"<html><script>alert(1)</script></html>",
        b"",
        b"[" * 60_000,
        b"null",
    ],
    ids=["list", "bytes", "html", "empty", "deep", "null"],
)
async def test_any_plain_200_is_up(serve: Serve, body: bytes) -> None:
    assert (await ask(one(await serve(says(answer(body)))))).health is Health.UP


async def test_states_in_json(serve: Serve) -> None:
    port = await serve(
        by_path({"/w": answer(b'{"status":"warn"}'), "/f": answer(b'{"status":"fail"}'), "/z": answer()})
    )
    weak = await ask(one(port, health=["/w", "/z"]))
    assert (weak.health, weak.endpoint) == (Health.DEGRADED, "/w")
    down = await ask(one(port, health=["/f", "/z"]))
    assert (down.health, down.endpoint) == (Health.DOWN, "/f"), "a path that answered 200 ends the search"


@pytest.mark.thorough
async def test_a_body_that_grows_without_end_is_read_within_bounds(serve: Serve) -> None:
    bomb = gzip.compress(b"0" * 100_000_000)
    config = one(await serve(says(answer(bomb, headers=b"Content-Encoding: gzip\r\n"))))
    tracemalloc.start()
    try:
        result = await ask(config)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (result.health, result.snippet) == (Health.UP, "0" * SNIPPET)
    assert peak < 4 * 1024 * 1024


@pytest.mark.parametrize(
    ("head", "health"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n", Health.UP),
        (b"HTTP/1.1 200 OK\r\n\r\n", Health.UP),
        (b"HTTP/1.1 200 OK\r\nX: ", Health.DOWN),
    ],
    ids=["a GB", "endless body", "endless header"],
)
async def test_without_end_in_bounded_memory(serve: Serve, head: bytes, health: Health) -> None:
    sent = 0
    gone = asyncio.Event()

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head)
        try:
            while sent < 1 << 30:
                writer.write(b"x" * 65536)
                await writer.drain()
                sent += 65536
        finally:
            gone.set()

    port = await serve(flood)
    tracemalloc.start()
    try:
        result = await ask(one(port))
        await asyncio.wait_for(gone.wait(), 5)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert result.health is health
    assert sent < 64 * 1024 * 1024, "the connection is closed, not drained"
    assert peak < 8 * 1024 * 1024
    assert MAX_BODY == 65536


@pytest.mark.thorough
async def test_endless_headers(serve: Serve) -> None:
    gone = asyncio.Event()

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n")
        try:
            for number in range(10_000_000):
                writer.write(b"H%d: x\r\n" % number)
                await writer.drain()
        finally:
            gone.set()

    result = await ask(one(await serve(flood), probe={"timeout": 20}))
    assert (result.health, result.reason) == (Health.DOWN, "the head of its response is too large at /health")
    await asyncio.wait_for(gone.wait(), 5)


async def test_a_self_signed_certificate(serve: Serve, tls: ssl.SSLContext) -> None:
    result = await ask(fleet(madre={"url": f"https://127.0.0.1:{await serve(says(answer()), ssl=tls)}"}))
    assert (result.health, result.reason) == (
        Health.DOWN,
        "its certificate is not accepted: self-signed certificate",
    )


async def test_plain_http_where_tls_is_expected(serve: Serve) -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(answer(b"", "400 Bad Request"))

    result = await ask(fleet(madre={"url": f"https://127.0.0.1:{await serve(plain)}"}))
    assert (result.health, result.reason) == (Health.DOWN, "the secure connection failed: this is no TLS port")


async def test_a_handshake_that_hangs(serve: Serve) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    port = await serve(silent)
    config = fleet(madre={"url": f"https://127.0.0.1:{port}", "probe": {"timeout": 0.2}, "health": ["/a", "/b"]})
    result = await ask(config, path_timeout=0.2)
    assert result.reason == "could not connect within 0.2 s"


async def test_cancellation_passes_and_leaves_nothing(serve: Serve) -> None:
    arrived, gone = asyncio.Event(), asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        arrived.set()
        await reader.read()
        gone.set()

    config = one(await serve(silent))
    prober = Prober(config)
    task = asyncio.get_running_loop().create_task(prober.probe(config.services["madre"].upstreams[0]))
    await asyncio.wait_for(arrived.wait(), 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(gone.wait(), 5)


async def test_out_of_file_descriptors_is_not_the_services_fault(serve: Serve) -> None:
    config = one(await serve(says(answer())))
    prober = Prober(config)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used - 1, hard))
    try:
        # Descriptors below the limit that are free now.
        taken = []
        with suppress(OSError):
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY))
        result = await prober.probe(config.services["madre"].upstreams[0])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in taken:
            os.close(descriptor)
    assert result.health is Health.UNKNOWN
    assert result.reason == "not sent: the gateway is out of file descriptors"
    assert (await prober.probe(config.services["madre"].upstreams[0])).health is Health.UP


async def test_out_of_memory_is_not_the_services_fault(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    async def no_memory(*_: object, **__: object) -> None:
        raise MemoryError

    config = one(await serve(says(answer())))
    prober = Prober(config)
    monkeypatch.setattr(ProbeConnection, "head", no_memory)
    result = await prober.probe(config.services["madre"].upstreams[0])
    assert (result.health, result.reason) == (
        Health.UNKNOWN,
        "not sent: the gateway's machine is out of memory at /health",
    )


async def test_a_hung_one_does_not_hold_the_others(serve: Serve) -> None:
    hung = 0

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal hung
        hung += 1
        await reader.read()

    config = fleet(
        hung={"url": f"http://127.0.0.1:{await serve(silent)}"},
        good={"url": f"http://127.0.0.1:{await serve(says(answer()))}"},
    )
    prober = Prober(config)
    async with asyncio.TaskGroup() as group:
        stuck = [group.create_task(prober.probe(config.services["hung"].upstreams[0])) for _ in range(120)]
        await eventually(lambda: hung == 120)
        assert (await prober.probe(config.services["good"].upstreams[0])).health is Health.UP
        for task in stuck:
            task.cancel()
