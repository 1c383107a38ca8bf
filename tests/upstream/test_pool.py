"""The pool, against real servers on this machine."""

from __future__ import annotations

import asyncio
import errno
import gc
import socket
import ssl
import struct
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from tentaculo.config.limits import LimitSettings
from tentaculo.model.failure import Blame, Failure, UpstreamError
from tentaculo.model.health import Endpoint
from tentaculo.net.resolving import look_up
from tentaculo.upstream.connection import MAX_IDLE, MAX_IDLE_UNSAFE, UpstreamConnection
from tentaculo.upstream.pool import Pool
from tests.support.addresses import DEAD, Names, dead_address
from tests.support.certificates import Certificate, self_signed
from tests.support.needs import need_ipv6
from tests.support.waits import eventually
from tests.support.wire import Reader, Writer, answering, ok, read_request, upstream
from tests.support.wire import Upstream as Server


def pool_of(port: int, host: str = "127.0.0.1", **limits: Any) -> Pool:
    return Pool(Endpoint("s", host, port), LimitSettings(**limits))


async def ask(connection: UpstreamConnection) -> bytes:
    """One exchange on `connection`; its body. It is not given back."""
    progress = asyncio.Event()
    connection.begin("GET", progress.set, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", 5)
    while not connection.response.is_whole:
        await progress.wait()
        progress.clear()
        if connection.error is not None:
            raise connection.error
    connection.on_progress = None
    return connection.take()


async def used(pool: Pool) -> UpstreamConnection:
    """A new connection with one exchange behind it."""
    connection = await pool.connect(5)
    assert await ask(connection) == b"ok"
    return connection


def idle(pool: Pool) -> int:
    return int(repr(pool).split(": ")[1].split(" idle")[0])


async def failure(pool: Pool, seconds: float = 5) -> UpstreamError:
    with pytest.raises(UpstreamError) as caught:
        await pool.connect(seconds)
    assert caught.value.untouched
    assert "127.0.0" not in caught.value.detail
    return caught.value


class TestKeepingAlive:
    async def test_the_connection_used_last_is_used_next(self) -> None:
        async with upstream(answering(ok())) as server:
            pool = pool_of(server.port)
            first, second = await used(pool), await used(pool)
            pool.give_back(first)
            pool.give_back(second)
            assert idle(pool) == 2
            assert pool.take_idle(repeatable=True) is second
            assert await ask(second) == b"ok"
            pool.give_back(second)
            assert pool.take_idle(repeatable=False) is second
            assert pool.take_idle(repeatable=False) is first
            assert pool.take_idle(repeatable=True) is None
            assert server.connections == pool.opened == 2
            pool.give_back(first)
            pool.give_back(second)
            pool.close()
            await server.until(lambda: server.gone == 2)

    async def test_no_more_than_its_bound_are_kept(self) -> None:
        async with upstream(answering(ok())) as server:
            pool = pool_of(server.port, pool=2)
            connections = [await used(pool) for _ in range(3)]
            for connection in connections:
                pool.give_back(connection)
            # The one that had idled longest went.
            assert idle(pool) == 2
            await server.until(lambda: server.gone == 1)
            assert not connections[0].is_open
            assert connections[2].is_open
            pool.close()

    async def test_the_others_go_when_they_have_grown_old(self) -> None:
        async with upstream(answering(ok())) as server:
            pool = pool_of(server.port)
            old, used_now = await used(pool), await used(pool)
            pool.give_back(old)
            old.idle_since -= MAX_IDLE + 0.01
            pool.give_back(used_now)
            assert idle(pool) == 1
            assert not old.is_open
            await server.until(lambda: server.gone == 1)
            pool.close()

    async def test_none_may_be_kept(self) -> None:
        async with upstream(answering(ok())) as server:
            pool = pool_of(server.port, pool=0)
            pool.give_back(await used(pool))
            assert pool.take_idle(repeatable=True) is None
            await server.until(lambda: server.gone == 1)

    @pytest.mark.parametrize(
        "answer",
        [
            ok(b"ok", b"Connection: close"),
            ok() + b"more than was asked for",
            b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        ],
    )
    async def test_one_that_cannot_be_used_again_is_closed(self, answer: bytes) -> None:
        async with upstream(answering(answer)) as server:
            pool = pool_of(server.port)
            pool.give_back(await used(pool))
            assert idle(pool) == 0
            await server.until(lambda: server.gone == 1)

    async def test_one_whose_request_is_unfinished_is_closed(self) -> None:
        async with upstream(answering(ok())) as server:
            pool = pool_of(server.port)
            connection = await used(pool)
            connection.is_request_whole = False
            pool.give_back(connection)
            assert idle(pool) == 0
            await server.until(lambda: server.gone == 1)


class TestGrowingOld:
    async def test_what_cannot_be_repeated_gets_a_fresh_one_only(self) -> None:
        async with upstream(answering(ok())) as server:
            pool = pool_of(server.port)
            connection = await used(pool)
            pool.give_back(connection)
            connection.idle_since -= MAX_IDLE_UNSAFE + 0.01
            assert pool.take_idle(repeatable=False) is None
            # For what can be repeated it is good enough.
            assert idle(pool) == 1
            assert pool.take_idle(repeatable=True) is connection
            pool.give_back(connection)
            assert pool.take_idle(repeatable=False) is connection
            connection.abort()

    async def test_after_a_while_it_is_not_used_at_all(self) -> None:
        async with upstream(answering(ok())) as server:
            pool = pool_of(server.port)
            for connection in [await used(pool), await used(pool)]:
                pool.give_back(connection)
                connection.idle_since -= MAX_IDLE + 0.01
            assert pool.take_idle(repeatable=True) is None
            await server.until(lambda: server.gone == 2)

    @pytest.mark.parametrize(
        ("said", "age", "fresh", "usable"),
        [
            (b"timeout=5", 3.9, True, True),
            (b"timeout=5, max=100", 4.1, False, True),
            (b"max=3,timeout=5", 5.1, False, False),
            (b"timeout=1", 0.4, True, True),
            (b"Timeout = 1", 0.6, False, True),
            (b"timeout=0", 0.1, False, False),
            (b"timeout=600", 59.0, True, True),
            (b"timeout=600", 61.0, False, False),
            (b"max=5", 0.9, True, True),
        ],
    )
    async def test_the_service_says_for_how_long_it_keeps_a_connection(
        self, said: bytes, age: float, fresh: bool, usable: bool
    ) -> None:
        async with upstream(answering(ok(b"ok", b"Keep-Alive: " + said))) as server:
            for repeatable, expected in ((False, fresh), (True, usable)):
                pool = pool_of(server.port)
                connection = await used(pool)
                pool.give_back(connection)
                connection.idle_since -= age
                assert (pool.take_idle(repeatable=repeatable) is connection) is expected
                connection.abort()


class TestGoingWhileIdle:
    async def after_one_answer(self, last: Callable[[Writer], None]) -> None:
        go = asyncio.Event()

        async def script(reader: Reader, writer: Writer, state: Server) -> None:
            await read_request(reader)
            writer.write(ok())
            await go.wait()
            last(writer)
            await reader.read(1)

        async with upstream(script) as server:
            pool = pool_of(server.port)
            connection = await used(pool)
            pool.give_back(connection)
            assert idle(pool) == 1
            go.set()
            await eventually(lambda: idle(pool) == 0)
            assert not connection.is_open
            assert pool.take_idle(repeatable=True) is None
            await server.until(lambda: server.gone == 1)

    async def test_closed(self) -> None:
        await self.after_one_answer(lambda writer: writer.close())

    async def test_half_closed(self) -> None:
        await self.after_one_answer(lambda writer: writer.write_eof())

    async def test_reset(self) -> None:
        await self.after_one_answer(lambda writer: writer.transport.abort())

    async def test_it_speaks_without_being_asked(self) -> None:
        await self.after_one_answer(lambda writer: writer.write(ok(b"surprise")))

    async def test_the_pool_closes(self) -> None:
        async with upstream(answering(ok())) as server:
            pool = pool_of(server.port)
            pool.give_back(await used(pool))
            assert idle(pool) == 1
            pool.close()
            assert idle(pool) == 0
            await server.until(lambda: server.gone == 1)


class TestConnecting:
    async def test_refused(self, refusing_port: int) -> None:
        error = await failure(pool_of(refusing_port))
        assert error.failure is Failure.CONNECT_REFUSED

    async def test_no_answer_in_time(self) -> None:
        with dead_address() as port:
            error = await failure(pool_of(port, DEAD), 0.1)
        assert error.failure is Failure.CONNECT_TIMEOUT

    async def test_over_ipv6(self) -> None:
        need_ipv6()
        async with upstream(answering(ok()), "::1") as server:
            pool = pool_of(server.port, "::1")
            connection = await used(pool)
            assert connection.address == "::1"
            connection.abort()

    async def test_one_dead_address_of_a_name_leaves_time_for_the_others(self) -> None:
        async with upstream(answering(ok())) as server:
            with dead_address(server.port):
                pool = Pool(Endpoint("s", "name", server.port), LimitSettings(), look_up=Names([DEAD, "127.0.0.1"]))
                connection = await pool.connect(2)
                assert connection.address == "127.0.0.1"
                connection.abort()

    async def test_one_refused_address_of_a_name_leaves_the_others(self) -> None:
        async with upstream(answering(ok())) as server:
            pool = Pool(Endpoint("s", "name", server.port), LimitSettings(), look_up=Names(["127.0.0.2", "127.0.0.1"]))
            connection = await used(pool)
            assert connection.address == "127.0.0.1"
            connection.abort()


SHORT = 0.001
"""For how long a look-up is believed where a test waits for its end."""


async def believed_no_more() -> None:
    """Let `SHORT` pass on the loop's clock, whose step is a millisecond."""
    await asyncio.sleep(0.005)


class TestNames:
    def pool(self, port: int, names: Names, resolve: float) -> Pool:
        return Pool(Endpoint("s", "name", port), LimitSettings(resolve=resolve), look_up=names)

    async def test_the_system_knows_this_machine(self) -> None:
        assert set(await look_up("localhost", 80)) <= {"127.0.0.1", "::1"}
        async with upstream(answering(ok())) as server:
            connection = await used(pool_of(server.port, "localhost"))
            assert connection.address == "127.0.0.1"
            connection.abort()

    async def test_an_address_is_not_looked_up(self) -> None:
        names = Names(OSError())
        async with upstream(answering(ok())) as server:
            pool = Pool(Endpoint("s", "127.0.0.1", server.port), LimitSettings(), look_up=names)
            (await used(pool)).abort()
        assert names.asked == []

    async def test_one_that_is_not_found(self, refusing_port: int) -> None:
        error = await failure(self.pool(refusing_port, Names(socket.gaierror(socket.EAI_NONAME, "x")), 30))
        assert error.failure is Failure.DNS_FAILED

    async def test_a_silent_name_server(self, refusing_port: int) -> None:
        error = await failure(self.pool(refusing_port, Names(None), 30), 0.05)
        assert (error.failure, error.detail) == (
            Failure.CONNECT_TIMEOUT,
            "the service's name was not looked up within 0.05 s",
        )

    async def test_an_answer_is_believed_for_a_time(self) -> None:
        names = Names(["127.0.0.1"])
        async with upstream(answering(ok())) as server:
            pool = self.pool(server.port, names, 3600)
            for _ in range(3):
                (await used(pool)).abort()
            assert names.asked == [("name", server.port)]

    async def test_then_it_is_asked_again_and_idle_connections_to_what_is_gone_are_closed(self) -> None:
        names = Names(["127.0.0.1"], ["127.0.0.2"])
        async with upstream(answering(ok()), "0.0.0.0") as server:
            pool = self.pool(server.port, names, SHORT)
            before = await used(pool)
            pool.give_back(before)
            await believed_no_more()
            after = await used(pool)
            assert after.address == "127.0.0.2"
            assert not before.is_open
            assert idle(pool) == 0
            assert len(names.asked) > 1
            after.abort()

    async def test_a_name_that_moves_is_noticed_while_its_connections_are_used(self) -> None:
        """As in a switchover, where the old machine serves those who still come."""
        names = Names(["127.0.0.1"])
        async with upstream(answering(ok()), "0.0.0.0") as server:
            pool = self.pool(server.port, names, SHORT)
            in_use, before = await used(pool), await pool.connect(5)
            names.results = [["127.0.0.3"]]
            await believed_no_more()
            pool.give_back(in_use)
            await eventually(lambda: not in_use.is_open)
            assert await ask(before) == b"ok", "an exchange ends before its connection does"
            pool.give_back(before)
            assert not before.is_open
            after = await used(pool)
            assert after.address == "127.0.0.3"
            after.abort()

    async def test_a_look_up_beside_connections_in_use_is_one_for_all(self) -> None:
        names = Names(["127.0.0.1"])
        async with upstream(answering(ok())) as server:
            pool = self.pool(server.port, names, SHORT)
            connections = [await used(pool) for _ in range(3)]
            names.results, names.asked = [None], []
            for connection in connections:
                await believed_no_more()
                pool.give_back(connection)
            await asyncio.sleep(0)
            assert len(names.asked) == 1
            assert idle(pool) == 3
            pool.close()

    async def test_idle_connections_to_what_is_still_there_stay(self) -> None:
        async with upstream(answering(ok()), "0.0.0.0") as server:
            pool = self.pool(server.port, Names(["127.0.0.1"], ["127.0.0.2", "127.0.0.1"]), SHORT)
            before = await used(pool)
            pool.give_back(before)
            await believed_no_more()
            (await used(pool)).abort()
            assert pool.take_idle(repeatable=True) is before
            before.abort()

    @pytest.mark.parametrize("away", [OSError("no name server"), None], ids=["refuses", "is silent"])
    async def test_a_name_server_that_is_away_takes_nothing_away(self, away: OSError | None) -> None:
        async with upstream(answering(ok())) as server:
            names = Names(["127.0.0.1"], away)
            pool = self.pool(server.port, names, SHORT)
            pool.give_back(await used(pool))
            await believed_no_more()
            connection = await pool.connect(0.4)
            assert len(names.asked) > 1
            assert connection.address == "127.0.0.1"
            assert idle(pool) == 1
            connection.abort()
            pool.close()

    async def test_a_service_that_moved_is_found_by_the_next_connection(self) -> None:
        names = Names(["127.0.0.2"], ["127.0.0.3"])
        async with upstream(answering(ok()), "127.0.0.3") as moved:
            pool = self.pool(moved.port, names, 3600)
            with socket.create_server(("127.0.0.2", moved.port)):
                old = await pool.connect(5)
                assert old.address == "127.0.0.2"
                old.abort()
            after = await used(pool)
            assert (after.address, len(names.asked)) == ("127.0.0.3", 2)
            after.abort()

    async def test_one_dead_address_is_remembered(self) -> None:
        async with upstream(answering(ok())) as server:
            with dead_address(server.port):
                pool = Pool(Endpoint("s", "name", server.port), LimitSettings(), look_up=Names([DEAD, "127.0.0.1"]))
                (await pool.connect(10)).abort()
                began = asyncio.get_running_loop().time()
                for _ in range(20):
                    (await pool.connect(10)).abort()
                assert asyncio.get_running_loop().time() - began < 20 * 0.25

    async def test_no_descriptor_is_not_the_services_fault(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def no_descriptor(*_: object, **__: object) -> None:
            raise OSError(errno.EMFILE, "no descriptor")

        monkeypatch.setattr(Pool, "_open", no_descriptor)
        error = await failure(pool_of(1))
        assert error.failure is Failure.EXHAUSTED
        assert (error.failure.blame, error.failure.status) == (Blame.GATEWAY, 503)

    async def test_no_memory_is_not_the_services_fault(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def no_memory(*_: object, **__: object) -> None:
            raise MemoryError

        monkeypatch.setattr(Pool, "_open", no_memory)
        assert (await failure(pool_of(1))).failure is Failure.EXHAUSTED

    @pytest.mark.parametrize("number", [errno.ENOBUFS, errno.ENOMEM])
    @pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhalf"])
    async def test_a_connection_for_which_the_kernel_has_no_memory(self, number: int, said: bytes) -> None:
        """The kernel of this machine fails a read or a write."""

        async def script(reader: Reader, writer: Writer, state: Server) -> None:
            await read_request(reader)
            writer.write(said)
            await reader.read()

        async with upstream(script) as server:
            connection = await pool_of(server.port).connect(5)
            connection.begin("POST", lambda: None, b"POST / HTTP/1.1\r\nHost: h\r\n\r\n", 5)
            await eventually(lambda: connection.has_data or not said)
            transport = connection.transport
            assert transport is not None
            connection.connection_lost(OSError(number, "no memory"))
            transport.abort()
            assert connection.error is not None
            assert (connection.error.failure, connection.error.untouched) == (Failure.EXHAUSTED, False)

    async def test_no_port_is_not_the_services_fault(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async with upstream(answering(ok())) as server:
            pool = pool_of(server.port)
            (kept := await used(pool)).rest()
            pool.give_back(kept)

            async def no_port(*_: object, **__: object) -> None:
                raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")

            monkeypatch.setattr(Pool, "_open", no_port)
            error = await failure(pool)
            assert (error.failure, error.detail) == (
                Failure.EXHAUSTED,
                "the gateway's machine has no port left for a connection",
            )
            assert idle(pool) == 1, "a connection that is closed keeps its port, and those that are idle can be used"
            pool.close()

    async def test_who_connects_during_a_look_up_goes_on_with_what_is_known(self) -> None:
        names = Names(["127.0.0.1"], None)
        async with upstream(answering(ok())) as server:
            pool = self.pool(server.port, names, 0.2)
            (await used(pool)).abort()
            await asyncio.sleep(0.205)
            made = await asyncio.gather(*(pool.connect(0.3) for _ in range(3)))
            assert len(names.asked) == 2
            for connection in made:
                connection.abort()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """A certificate for localhost that signed itself, and its key."""
    return self_signed(tmp_path_factory.mktemp("tls"))


class TestTls:
    async def connect(self, certificate: Certificate, name: str, *, trusts: bool, server_name: str = "") -> bytes:
        context = certificate.server_context()

        async def serve(reader: Reader, writer: Writer) -> None:
            try:
                await read_request(reader)
                writer.write(ok())
                await reader.read()
            except (OSError, asyncio.IncompleteReadError):
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
        async with server:
            port = server.sockets[0].getsockname()[1]
            trust = ssl.create_default_context(cafile=str(certificate[0])) if trusts else None
            pool = Pool(
                Endpoint("s", name, port, tls=True),
                LimitSettings(),
                tls=trust,
                server_name=server_name,
                look_up=Names(["127.0.0.1"]),
            )
            connection = await pool.connect(5)
            try:
                return await ask(connection)
            finally:
                connection.abort()

    async def test_a_certificate_that_is_trusted(self, certificate: Certificate) -> None:
        assert await self.connect(certificate, "localhost", trusts=True) == b"ok"

    async def test_the_name_of_the_certificate_can_be_another(self, certificate: Certificate) -> None:
        found = await self.connect(certificate, "other.example", trusts=True, server_name="localhost")
        assert found == b"ok"

    @pytest.mark.parametrize(("name", "trusts"), [("localhost", False), ("other.example", True)])
    async def test_one_that_is_not(self, certificate: Certificate, name: str, trusts: bool) -> None:
        with pytest.raises(UpstreamError) as caught:
            await self.connect(certificate, name, trusts=trusts)
        assert caught.value.failure is Failure.TLS_FAILED
        assert caught.value.untouched


async def test_an_answer_that_nobody_took_is_not_left_for_the_next_exchange() -> None:
    async with upstream(answering(ok(b"someone else's"))) as server:
        pool = pool_of(server.port)
        connection = await pool.connect(5)
        connection.begin("GET", lambda: None, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", 5)
        await eventually(lambda: connection.response.is_whole)
        pool.give_back(connection)
        assert pool.take_idle(repeatable=True) is None
        assert not connection.is_open
        pool.close()


async def test_an_idle_connection_holds_nothing_of_the_client_that_it_served() -> None:
    body = bytes(1_000_000)
    async with upstream(answering(ok(body))) as server:
        pool = pool_of(server.port)
        connection, receiver = await pool.connect(5), await pool.connect(5)
        assert receiver.transport is not None
        transports, client, got = [receiver.transport], weakref.ref(receiver.transport), bytearray()

        def relay() -> None:
            if not got:
                connection.read_for(transports[0])
                assert connection.read_room is not None
            got.extend(connection.take())

        connection.begin("GET", relay, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", 5)
        await eventually(lambda: connection.response.is_whole)
        assert got == body
        connection.on_progress = None
        pool.give_back(connection)
        receiver.abort()
        transports.clear()
        del receiver
        await eventually(lambda: gc.collect() >= 0 and client() is None)
        pool.close()


async def test_an_idle_connection_that_has_read_what_nobody_asked_for_is_not_used() -> None:
    """On a busy loop it waits for its turn, and would be taken for the response to the next request."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        for repeatable in (True, False):
            pool, connection, peer = await kept(server)
            connection.put_off(ok(b"someone else's"))
            assert pool.take_idle(repeatable=repeatable) is None
            assert not connection.is_open
            peer.close()


async def kept(server: socket.socket) -> tuple[Pool, UpstreamConnection, socket.socket]:
    """A pool with one idle connection to `server`, and its other end: what is done there the event loop sees later."""
    pool = pool_of(server.getsockname()[1])
    connection = await pool.connect(5)
    peer, _ = server.accept()
    progress = asyncio.Event()
    connection.begin("GET", progress.set, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", 5)
    peer.recv(1000)
    peer.sendall(ok())
    await eventually(lambda: connection.response.is_whole)
    connection.take()
    connection.on_progress = None
    pool.give_back(connection)
    return pool, connection, peer


def close(peer: socket.socket) -> None:
    peer.close()


def reset(peer: socket.socket) -> None:
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


def speak(peer: socket.socket) -> None:
    peer.sendall(ok(b"no", status=b"408 Request Timeout"))


@pytest.mark.parametrize("end", [close, reset, speak])
async def test_a_close_is_seen_before_the_event_loop_reads_it(end: Callable[[socket.socket], None]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        pool, connection, peer = await kept(server)
        end(peer)
        assert pool.take_idle(repeatable=False) is None
        assert not connection.is_open
        peer.close()


@pytest.mark.parametrize(("end", "reads"), [(close, 0), (close, 4), (reset, 4), (close, 1000), (reset, 1000)])
async def test_what_the_service_cannot_have_read_is_known(end: Callable[[socket.socket], None], reads: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        pool, connection, peer = await kept(server)
        assert pool.take_idle(repeatable=False) is connection
        progress = asyncio.Event()
        if not reads:
            end(peer)
        connection.begin("POST", progress.set, b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi", 5)
        if reads:
            await eventually(lambda: bool(peer.recv(1000, socket.MSG_PEEK | socket.MSG_DONTWAIT)))
            peer.recv(reads)
            end(peer)
        async with asyncio.timeout(5):
            await progress.wait()
        error = connection.error
        assert error is not None
        assert (error.failure, error.untouched, error.untaken) == (Failure.CONNECTION_LOST, True, not reads)


async def test_an_exchange_does_not_begin_on_a_connection_that_was_lost() -> None:
    """It would wait for the time limit: a connection that was lost before reports nothing any more."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        pool = pool_of(server.getsockname()[1])
        connection = await pool.connect(5)
        server.accept()[0].close()
        await eventually(lambda: not connection.is_open)
        with pytest.raises(UpstreamError) as caught:
            connection.begin("GET", lambda: None, b"", 5)
    assert (caught.value.failure, caught.value.untouched) == (Failure.CONNECTION_LOST, True)


async def test_an_answer_that_came_with_a_reset_is_read() -> None:
    """The write that meets the reset comes before the read that would have found the answer."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        pool = pool_of(server.getsockname()[1])
        connection = await pool.connect(5)
        peer, _ = server.accept()
        progress = asyncio.Event()
        connection.begin("POST", progress.set, b"")
        peer.sendall(ok(b"early"))
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
        connection.write(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n")
        async with asyncio.timeout(5):
            await progress.wait()
        assert connection.take() == b"early"
        assert connection.response.is_whole
        assert not connection.is_open
        pool.give_back(connection)
        assert idle(pool) == 0
