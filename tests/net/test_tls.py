"""TLS to a service, against a peer whose every record and every end the test decides."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import cast

import pytest

from tentaculo.net.tls import TRUNCATED, TlsTransport, open_tls
from tentaculo.net.turns import LOOK, TurnReader, TurnScheduler
from tests.support.certificates import Certificate, self_signed
from tests.support.waits import eventually
from tests.support.wire import Reader, Writer

LARGE = bytes(range(256)) * 8192
MOST_OF_A_RECEIVER = 64 * 1024
"""Bytes that may wait for one receiver."""


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return self_signed(tmp_path_factory.mktemp("tls"))


class Receiver(TurnReader):
    """The side under test: keeps what it is handed."""

    def __init__(self, turns: TurnScheduler) -> None:
        super().__init__(turns)
        self.transport: asyncio.Transport | None = None
        self.got = b""
        self.has_ended = False
        self.lost: list[Exception | None] = []
        self.is_writable = True
        self.reads = True
        self.on_data: Callable[[bytes], None] | None = None

    @property
    def may_read(self) -> bool:
        return self.reads

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(0)

    def receive(self, data: bytes) -> None:
        self.got += data
        if self.on_data is not None:
            self.on_data(data)

    def eof_received(self) -> bool:
        self.has_ended = True
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.release()
        self.lost.append(exc)

    def pause_writing(self) -> None:
        self.is_writable = False

    def resume_writing(self) -> None:
        self.is_writable = True

    @property
    def tls(self) -> TlsTransport:
        """The connection."""
        assert isinstance(self.transport, TlsTransport)
        return self.transport


class Peer:
    """The other side: TLS over plain streams, so that a test can send any bytes, and stop anywhere."""

    def __init__(self, reader: Reader, writer: Writer, context: ssl.SSLContext) -> None:
        self.reader, self.writer = reader, writer
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=True)

    async def call(self, step: Callable[[], bytes | None]) -> bytes:
        """Take one step of TLS, and read as long as it wants more."""
        while True:
            try:
                return step() or b""
            except ssl.SSLZeroReturnError:
                return b""
            except ssl.SSLWantReadError:
                self.flush()
                data = await self.reader.read(65536)
                if not data:
                    raise EOFError from None
                self.incoming.write(data)
            finally:
                self.flush()

    def flush(self) -> None:
        self.writer.write(self.outgoing.read())

    async def read(self) -> bytes:
        """Some bytes; none after close_notify."""
        return await self.call(lambda: self.tls.read(65536))

    def send(self, data: bytes) -> None:
        """Send a record for each 16 KB of `data`."""
        while data:
            data = data[self.tls.write(data[:16384]) :]
            self.flush()

    def notify(self) -> None:
        """Send close_notify."""
        with suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        self.flush()


@asynccontextmanager
async def peers(certificate: Certificate) -> AsyncIterator[Callable[[TurnScheduler], Awaitable[tuple[Receiver, Peer]]]]:
    """A function that connects a receiver with a peer."""
    context = certificate.server_context()
    accepted: asyncio.Queue[Peer] = asyncio.Queue()

    async def accept(reader: Reader, writer: Writer) -> None:
        peer = Peer(reader, writer, context)
        await peer.call(peer.tls.do_handshake)
        accepted.put_nowait(peer)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    opened: list[tuple[Receiver, Peer]] = []

    async def connect(turns: TurnScheduler) -> tuple[Receiver, Peer]:
        receiver = Receiver(turns)
        trust = ssl.create_default_context(cafile=str(certificate.certificate))
        port = server.sockets[0].getsockname()[1]
        assert await open_tls(receiver, turns, trust, "localhost", "127.0.0.1", port) is receiver.transport
        opened.append((receiver, await accepted.get()))
        return opened[-1]

    async with server:
        try:
            yield connect
        finally:
            for receiver, peer in opened:
                receiver.tls.abort()
                peer.writer.transport.abort()
        await eventually(lambda: all(len(receiver.lost) == 1 for receiver, _ in opened))
        assert all(receiver.turns.memory.held == 0 for receiver, _ in opened)


async def test_bytes_pass_both_ways(certificate: Certificate) -> None:
    async with peers(certificate) as connect:
        receiver, peer = await connect(TurnScheduler())
        assert repr(receiver.tls) == "<TlsTransport open>"
        written = 0
        while receiver.is_writable:
            receiver.tls.write(LARGE)
            written += 1
        assert receiver.tls.get_write_buffer_size() > 0
        found = bytearray()
        while len(found) < written * len(LARGE):
            found += await peer.read()
        assert hash(bytes(found)) == hash(LARGE * written)
        await eventually(lambda: receiver.is_writable)
        assert receiver.tls.get_write_buffer_size() == 0
        peer.send(LARGE)
        await eventually(lambda: receiver.got == LARGE)


async def test_close_notify_is_the_end(certificate: Certificate) -> None:
    async with peers(certificate) as connect:
        receiver, peer = await connect(TurnScheduler())
        peer.send(b"last")
        peer.notify()
        await eventually(lambda: receiver.lost == [None])
        assert (receiver.got, receiver.has_ended) == (b"last", True)
        assert receiver.tls.get_extra_info(TRUNCATED) is False
        assert await peer.read() == b"", "it has notified as well"


async def test_a_close_sends_what_waits_and_notifies(certificate: Certificate) -> None:
    async with peers(certificate) as connect:
        receiver, peer = await connect(TurnScheduler())
        receiver.tls.write(LARGE)
        receiver.tls.close()
        assert receiver.tls.is_closing()
        receiver.tls.write(b"too late")
        found = b""
        while data := await peer.read():
            found += data
        assert hash(found) == hash(LARGE)


async def test_a_close_without_close_notify_is_visible(certificate: Certificate) -> None:
    async with peers(certificate) as connect:
        receiver, peer = await connect(TurnScheduler())
        peer.send(b"perhaps not the last")
        peer.writer.close()
        await eventually(lambda: receiver.lost == [None])
        assert (receiver.got, receiver.has_ended) == (b"perhaps not the last", True)
        assert receiver.tls.get_extra_info(TRUNCATED) is True


@pytest.mark.parametrize("ends", [False, True])
async def test_a_receiver_that_pauses_holds_little_and_it_is_counted(certificate: Certificate, ends: bool) -> None:
    async with peers(certificate) as connect:
        receiver, peer = await connect(turns := TurnScheduler())
        receiver.read_room = lambda: 1 << 18

        def pause(data: bytes) -> None:
            receiver.reads = False
            receiver.tls.pause_reading()

        for number in range(20):
            receiver.on_data = pause
            receiver.reads = True
            receiver.tls.resume_reading()
            peer.send(LARGE[number << 16 : (number + 1) << 16])
            await eventually(lambda: not receiver.reads)
            assert 0 < turns.memory.held <= MOST_OF_A_RECEIVER
        before = len(receiver.got)
        if ends:
            peer.notify()
        await asyncio.sleep(0.02)
        assert (len(receiver.got), receiver.has_ended) == (before, False)
        receiver.on_data = None
        receiver.reads = True
        receiver.tls.resume_reading()
        await eventually(lambda: receiver.got == LARGE[: 20 << 16])
        await eventually(lambda: turns.memory.held == 0)
        await eventually(lambda: receiver.has_ended is ends)


async def test_what_came_before_a_reset_is_handed_on(certificate: Certificate) -> None:
    """As a response to an upload that a service refuses: the gateway learns of the reset when it writes."""
    async with peers(certificate) as connect:
        receiver, peer = await connect(TurnScheduler())
        receiver.tls.write(bytes(100_000))
        await asyncio.sleep(0.02)
        peer.send(b"refused")
        receiver.tls.pause_reading()
        peer.writer.close()
        await asyncio.sleep(0.02)
        for _ in range(100):
            receiver.tls.write(bytes(100_000))
            await asyncio.sleep(0.001)
        await eventually(lambda: bool(receiver.lost))
        assert receiver.got == b"refused"
        assert isinstance(receiver.lost[0], ConnectionError)


async def test_connections_that_write_while_another_one_reads(certificate: Certificate) -> None:
    """All share the buffers of OpenSSL."""
    async with peers(certificate) as connect:
        turns = TurnScheduler()
        (one, first), (two, second) = await connect(turns), await connect(turns)

        def pass_on(data: bytes) -> None:
            two.tls.write(data)
            two.tls.pause_reading()
            two.tls.resume_reading()

        one.on_data = pass_on
        first.send(LARGE)
        second.send(LARGE)
        found = b""
        while len(found) < len(LARGE):
            found += await second.read()
        assert hash(found) == hash(LARGE)
        await eventually(lambda: one.got == two.got == LARGE)


async def test_bytes_that_are_no_record_end_the_connection(certificate: Certificate) -> None:
    async with peers(certificate) as connect:
        receiver, peer = await connect(TurnScheduler())
        peer.send(b"good")
        peer.writer.write(b"\x17\x03\x03\x00\x20" + bytes(32))
        await eventually(lambda: bool(receiver.lost))
        assert receiver.got == b"good"
        assert isinstance(receiver.lost[0], ssl.SSLError)


async def test_many_small_records_count_as_many_reads(certificate: Certificate) -> None:
    async with peers(certificate) as connect:
        receiver, peer = await connect(turns := TurnScheduler())
        before = turns.handled
        for _ in range(16 * 1024):
            peer.tls.write(b"x")
        peer.flush()
        await eventually(lambda: len(receiver.got) == 16 * 1024)
        assert turns.handled - before > LOOK


async def handshake(context: ssl.SSLContext, script: Callable[[Reader, Writer], Awaitable[None]]) -> None:
    """Connect to `script`, and abort what succeeds."""
    server = await asyncio.start_server(script, "127.0.0.1", 0)
    async with server:
        receiver = Receiver(turns := TurnScheduler())
        port = server.sockets[0].getsockname()[1]
        try:
            async with asyncio.timeout(0.5):
                (await open_tls(receiver, turns, context, "localhost", "127.0.0.1", port)).abort()
        finally:
            assert receiver.transport is None or not receiver.lost


async def test_a_certificate_that_is_not_trusted(certificate: Certificate) -> None:
    alerts: list[str] = []

    async def script(reader: Reader, writer: Writer) -> None:
        peer = Peer(reader, writer, certificate.server_context())
        try:
            await peer.call(peer.tls.do_handshake)
            await peer.read()
        except ssl.SSLError as error:
            alerts.append(error.reason)
        finally:
            writer.close()

    with pytest.raises(ssl.SSLCertVerificationError, match="self-signed"):
        await handshake(ssl.create_default_context(), script)
    await eventually(lambda: alerts == ["TLSV1_ALERT_UNKNOWN_CA"])


async def test_a_peer_without_tls(certificate: Certificate) -> None:
    async def script(reader: Reader, writer: Writer) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read()
        writer.close()

    with pytest.raises(ssl.SSLError, match="WRONG_VERSION_NUMBER"):
        await handshake(ssl.create_default_context(), script)


async def test_a_peer_that_closes_in_the_handshake() -> None:
    async def script(reader: Reader, writer: Writer) -> None:
        await reader.read(10)
        writer.close()

    with pytest.raises(ConnectionResetError):
        await handshake(ssl.create_default_context(), script)


async def test_a_peer_that_says_nothing_is_left_in_time() -> None:
    gone = asyncio.Event()

    async def script(reader: Reader, writer: Writer) -> None:
        with suppress(ConnectionError):
            await reader.read()
        gone.set()
        writer.close()

    with pytest.raises(TimeoutError):
        await handshake(ssl.create_default_context(), script)
    await asyncio.wait_for(gone.wait(), 5)


@pytest.mark.parametrize(("version", "command"), [("tls1_2", b"R\n"), ("tls1_3", b"K\n")], ids=["keys again", "update"])
async def test_new_keys_within_a_connection(certificate: Certificate, version: str, command: bytes) -> None:
    """A renegotiation in TLS 1.2, an update of the keys in TLS 1.3, while the connection sends and after it."""
    server = await asyncio.create_subprocess_exec(
        *("openssl", "s_server", f"-{version}", "-accept", "127.0.0.1:0", "-cert", certificate.certificate),
        *("-key", certificate.key),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        async with asyncio.timeout(20):
            while not (line := await server.stdout.readline()).startswith(b"ACCEPT"):
                assert line
            port = int(line.rpartition(b":")[2])
            receiver = Receiver(turns := TurnScheduler())
            trust = ssl.create_default_context(cafile=str(certificate.certificate))
            await open_tls(receiver, turns, trust, "localhost", "127.0.0.1", port)
            found = b""
            for number in range(3):
                server.stdin.write(command)
                for part in range(20):
                    receiver.tls.write(b"<%d.%d>\n" % (number, part))
                    await asyncio.sleep(0.002)
                while b"<%d.19>\n" % number not in found:
                    found += await server.stdout.read(65536)
                server.stdin.write(b"to the gateway\n")
                await eventually(lambda: receiver.got.count(b"to the gateway\n") > number)  # noqa: B023
            assert [line for line in found.split(b"\n") if b"<" in line] == [
                b"<%d.%d>" % (number, part) for number in range(3) for part in range(20)
            ]
            assert receiver.is_writable
            receiver.tls.abort()
    finally:
        server.kill()
        await server.wait()
