"""TLS over a plain TCP transport of the event loop: a connection that holds little, and counts what it holds.

The layers of asyncio and uvloop keep a buffer of 256 KB for each connection and read as much ahead where the receiver
pauses; nobody can count what waits there. They also report an end without close_notify as a usual end. A subclass of
asyncio's layer would have to replace private methods, which differ between versions of Python. So this is a layer of
its own over `ssl.MemoryBIO`:

- what arrives is read into a buffer that all connections share, and decrypted a record at a time;
- what is written is encrypted at once: the buffer of the TCP transport is the only one, and its limits hold;
- the buffers between this layer and OpenSSL keep the size of their largest content, so all connections share one pair,
  which is emptied (`_settle`) before anything else can run;
- while the receiver pauses, at most one read and one record wait, and they are counted.

As with the other layers, one half cannot be closed alone: the connection closes after the peer's close_notify.
"""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from typing import Any, cast

from tentaculo.net.tcp import unread
from tentaculo.net.turns import STEPS, TurnReader, TurnScheduler

RECORD = 16 * 1024
"""Bytes of text in the largest record (RFC 8446 section 5.1)."""
STEP = 64 * 1024
"""Encrypted bytes that OpenSSL is given at once."""
MOST_UNREAD = 64 * 1024
"""Encrypted bytes that are read of a connection that was reset."""
TRUNCATED = "truncated"
"""A name for `get_extra_info`: whether the peer has closed without close_notify (RFC 8446 section 6.1)."""
_NOTHING = memoryview(b"")


async def open_tls(
    protocol: TurnReader, turns: TurnScheduler, context: ssl.SSLContext, server_name: str, address: str, port: int
) -> TlsTransport:
    """Connect to `address`; `protocol` gets the connection once the handshake with `server_name` is complete.

    Raises OSError, `ssl.SSLError` among them. The caller limits the time.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    transport = TlsTransport(protocol, turns, context, server_name, done)
    await loop.create_connection(lambda: transport, address, port)
    try:
        await done
    except BaseException:
        transport.abort()
        raise
    return transport


class TlsTransport(asyncio.Transport, asyncio.BufferedProtocol):
    """The transport of a connection with TLS, and the protocol of the TCP transport below it."""

    __slots__ = (
        *("_backlog", "_done", "_error", "_has_room", "_incoming", "_is_closing", "_is_open", "_is_over", "_is_paused"),
        *("_is_tcp_full", "_is_truncated", "_outgoing", "_protocol", "_tcp", "_tls", "_turns", "_undecrypted"),
    )

    def __init__(
        self,
        protocol: TurnReader,
        turns: TurnScheduler,
        context: ssl.SSLContext,
        server_name: str,
        done: asyncio.Future[None],
    ) -> None:
        """`done` gets the outcome of the handshake."""
        super().__init__()
        self._protocol = protocol
        self._turns = turns
        self._incoming, self._outgoing = turns.incoming, turns.outgoing
        # Any: the types of `ssl` know nothing of a read into a memoryview.
        self._tls: Any = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_name)
        self._tcp: asyncio.Transport | None = None
        """None until it stands."""
        self._done: asyncio.Future[None] | None = done
        """None once the handshake has ended."""
        self._is_open = False
        """Whether the protocol has got the connection."""
        self._is_closing = False
        self._is_paused = False
        self._undecrypted = _NOTHING
        """What was read and is not decrypted yet, since the protocol has paused."""
        self._is_over = False
        """Whether close_notify has arrived."""
        self._is_truncated = False
        self._error: ssl.SSLError | None = None
        self._backlog = b""
        """What cannot be encrypted during a renegotiation (TLS 1.2)."""
        self._is_tcp_full = False
        self._has_room = True
        """What the protocol was told last."""

    def __repr__(self) -> str:
        return f"<TlsTransport {'closing' if self._is_closing else 'open' if self._is_open else 'not open'}>"

    # -- asyncio.Transport -------------------------------------------------------------------------------------

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Of the TLS connection `ssl_object` and `TRUNCATED`, else of the TCP transport."""
        if name == "ssl_object":
            return self._tls
        if name == TRUNCATED:
            return self._is_truncated
        return default if self._tcp is None else self._tcp.get_extra_info(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Notify `protocol`, a `TurnReader`, from now on."""
        self._protocol = cast(TurnReader, protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """The one that is notified."""
        return self._protocol

    def is_closing(self) -> bool:
        """Whether it is closed, or about to be."""
        return self._is_closing or self._tcp is None or self._tcp.is_closing()

    def is_reading(self) -> bool:
        """Whether the protocol gets what arrives."""
        return not self._is_paused and not self.is_closing()

    def pause_reading(self) -> None:
        """Hand nothing on until `resume_reading`."""
        if not self._is_paused and self._tcp is not None and not self._tcp.is_closing():
            self._is_paused = True
            self._tcp.pause_reading()
            self._turns.memory.hold(self, RECORD)

    def resume_reading(self) -> None:
        """Hand on what has arrived, in a later call, and what will arrive."""
        if self._is_paused:
            self._is_paused = False
            if self._undecrypted or self._tls.pending() or self._is_over:
                asyncio.get_running_loop().call_soon(self._read_on)
            else:
                self._read_tcp()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the limits of the TCP transport, in encrypted bytes."""
        if self._tcp is not None:
            self._tcp.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        """Bytes that wait to be sent, most of them encrypted."""
        return len(self._backlog) + (0 if self._tcp is None else self._tcp.get_write_buffer_size())

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt and send `data`."""
        if self._backlog:
            self._backlog += data
        elif data and not self.is_closing():
            self._encrypt(data)

    def can_write_eof(self) -> bool:
        """Never."""
        return False

    def close(self) -> None:
        """Send what waits, with close_notify behind it, and close. Nothing more is handed on."""
        if self._is_closing or self._tcp is None:
            return
        self._is_closing = True
        # It also looks for the peer's close_notify, which need not be there.
        with suppress(ssl.SSLError):
            self._tls.unwrap()
        self._settle()
        self._tcp.close()

    def abort(self) -> None:
        """Close at once and drop what is unsent."""
        self._is_closing = True
        if self._tcp is not None:
            self._tcp.abort()

    # -- the protocol of the TCP transport ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The TCP connection stands: begin the handshake."""
        self._tcp = cast(asyncio.Transport, transport)
        if self._is_closing:
            self._tcp.abort()
        else:
            self._shake_hands()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next encrypted bytes go: as many as the protocol takes, about."""
        return self._turns.encrypted[: len(self._protocol.get_buffer(sizehint))]

    def buffer_updated(self, nbytes: int) -> None:
        """The peer has sent `nbytes`."""
        self._undecrypted = self._turns.encrypted[:nbytes]
        if self._is_open:
            self._read()
        elif self._done is not None:
            self._shake_hands()

    def eof_received(self) -> bool:
        """The peer has closed the TCP connection. Returns that it shall be closed."""
        if self._done is not None:
            self._end_handshake(ConnectionResetError("the connection was closed during the TLS handshake"))
        elif self._is_open and not self._is_over:
            self._is_truncated = True
            self._protocol.eof_received()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The TCP connection is gone. What the peer sent before a reset is handed on first."""
        if self._done is not None:
            self._end_handshake(exc or ConnectionResetError("the connection was lost during the TLS handshake"))
        if self._is_open:
            if exc is not None and self._error is None and not self._is_closing and self._tcp is not None:
                left = unread(self._tcp, MOST_UNREAD)
                self._undecrypted = memoryview(b"".join((self._undecrypted, left)))
                self._read(to_end=True)
            self._protocol.connection_lost(self._error or exc)
        self._is_closing = True
        self._undecrypted = _NOTHING
        self._turns.memory.release(self)

    def pause_writing(self) -> None:
        """The send buffer is over its mark."""
        self._is_tcp_full = True
        self._report_room()

    def resume_writing(self) -> None:
        """The send buffer has room again."""
        self._is_tcp_full = False
        self._report_room()

    # -- inside ------------------------------------------------------------------------------------------------

    def _shake_hands(self) -> None:
        error: ssl.SSLError | None = None
        self._incoming.write(self._undecrypted)
        self._undecrypted = _NOTHING
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._settle()
            return
        except ssl.SSLError as found:
            error = found
        self._settle()  # with an error, the alert that says to the peer why
        if error is None:
            self._is_open = True
            self._protocol.connection_made(self)
            self._end_handshake(None)
            self._read()
        else:
            self._end_handshake(error)
            if self._tcp is not None:
                self._tcp.close()

    def _end_handshake(self, error: Exception | None) -> None:
        done, self._done = self._done, None
        if done is not None and not done.done():
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(error)

    def _read(self, *, to_end: bool = False) -> None:
        """Decrypt what has arrived and hand it on, until the protocol pauses; `to_end`: also then."""
        tls, incoming = self._tls, self._incoming
        view, size, records = _NOTHING, 0, 0
        while not self._is_over and not self._is_closing and (to_end or not self._is_paused):
            if not incoming.pending and not tls.pending():
                if not self._undecrypted:
                    break
                incoming.write(self._undecrypted[:STEP])
                self._undecrypted = self._undecrypted[STEP:]
            if not view:
                view = self._protocol.get_buffer(-1)
            try:
                count = tls.read(len(view) - size, view[size:])
            except ssl.SSLWantReadError as error:
                if not incoming.pending:
                    continue
                self._error = error
                break
            except ssl.SSLError as error:
                self._error = error
                break
            size += count
            records += 1
            self._is_over = not count
            if size == len(view):
                self._settle()
                self._protocol.buffer_updated(size)
                view, size = _NOTHING, 0
        self._settle()
        if records > STEPS:
            self._turns.charge(records)
        if size:
            self._protocol.buffer_updated(size)
        self._after_read()

    def _after_read(self) -> None:
        if self._error is not None:
            if self._tcp is not None:
                self._tcp.abort()
        elif self._is_paused:
            # OpenSSL keeps 16 KB that it used for session tickets until the next write. An empty one sends nothing.
            with suppress(ssl.SSLError):
                self._tls.write(b"")
            # Not in the buffer of all connections any more.
            self._undecrypted = memoryview(bytes(self._undecrypted))
            self._turns.memory.hold(self, RECORD + len(self._undecrypted) + self._tls.pending())
        elif self._is_over and not self._is_closing:
            self._protocol.eof_received()
            self.close()
        if self._backlog and not self.is_closing():
            data, self._backlog = self._backlog, b""
            self._encrypt(data)

    def _settle(self) -> None:
        """Send what OpenSSL itself has to say, and take back what it has not read."""
        if self._incoming.pending:
            self._undecrypted = memoryview(b"".join((self._incoming.read(), self._undecrypted)))
        if self._outgoing.pending:
            data = self._outgoing.read()
            if self._tcp is not None and not self._tcp.is_closing():
                self._tcp.write(data)

    def _read_on(self) -> None:
        if not self._is_paused and not self.is_closing():
            self._read()
            self._read_tcp()

    def _read_tcp(self) -> None:
        if not self._is_paused and self._tcp is not None:
            self._turns.memory.release(self)
            if not self._tcp.is_closing():
                self._tcp.resume_reading()

    def _encrypt(self, data: bytes | bytearray | memoryview) -> None:
        left, records = memoryview(data), list[bytes]()
        try:
            while left:
                left = left[self._tls.write(left[:RECORD]) :]
                records.append(self._outgoing.read())
        except ssl.SSLWantReadError:
            self._backlog = bytes(left)
        except ssl.SSLError as error:
            self._error = error
        # Before the transport is called, which may report to its protocol that it is full.
        if self._outgoing.pending:
            records.append(self._outgoing.read())
        if self._error is not None:
            self.abort()
        elif self._tcp is not None and not self._tcp.is_closing():
            self._tcp.writelines(records)
        self._report_room()

    def _report_room(self) -> None:
        has_room = not self._is_tcp_full and not self._backlog
        if has_room != self._has_room and self._is_open:
            self._has_room = has_room
            if has_room:
                self._protocol.resume_writing()
            else:
                self._protocol.pause_writing()
