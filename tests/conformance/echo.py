"""A WebSocket end that sends back what it gets, and forgives nothing (RFC 6455), as server or as client.

Written here because no library judges as sharply: text that is not UTF-8 is refused at the byte that breaks it, within
a frame too, and each message is answered before the next frame is judged. What the suite then finds is the tunnel's.
"""

from __future__ import annotations

import asyncio
import base64
import codecs
import os
from contextlib import suppress
from hashlib import sha1

from tests.support.wire import Reader, Upstream, Writer, dial, read_request

_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0, 1, 2, 8, 9, 10
_FINAL, _RESERVED, _MASKED = 0x80, 0x70, 0x80
_PIECE = 65536
_LINGER = 2.0
"""Seconds that the other end gets to see our close before the connection is dropped."""


class BrokenRuleError(Exception):
    """What came is not a WebSocket's; `code` is the close code that says why."""

    def __init__(self, code: int) -> None:
        super().__init__(str(code))
        self.code = code


def accept_key(key: str) -> str:
    """The answer to a Sec-WebSocket-Key."""
    return base64.b64encode(sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()).decode()


def _masked(data: bytes, key: bytes) -> bytes:
    pad = (key * (len(data) // 4 + 1))[: len(data)]
    return (int.from_bytes(data, "little") ^ int.from_bytes(pad, "little")).to_bytes(len(data), "little")


def _may_be_sent(code: int) -> bool:
    """Whether a close frame may carry `code` (section 7.4)."""
    return 3000 <= code < 5000 or code in {1000, 1001, 1002, 1003, *range(1007, 1015)}


class Peer:
    """One end of an open WebSocket. `masks` is whether we are the client."""

    def __init__(self, reader: Reader, writer: Writer, *, masks: bool) -> None:
        self._reader = reader
        self._writer = writer
        self._masks = masks
        self._opcode = _CONTINUATION
        """Of the message under way; none is while it is that of a continuation."""
        self._message = bytearray()
        self._text = codecs.getincrementaldecoder("utf-8")()

    async def run(self) -> None:
        """Echo until the other end closes or breaks the rules, then close."""
        try:
            while (closing := await self._frame()) is None:
                await self._writer.drain()
        except BrokenRuleError as broken:
            closing = broken.code.to_bytes(2, "big")
        self._send(_CLOSE, closing)
        await self._end()

    async def _end(self) -> None:
        """Let the close arrive: dropping a connection with bytes unread would reset it."""
        with suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(_LINGER):
                await self._writer.drain()
                if not self._masks:
                    self._writer.write_eof()
                while await self._reader.read(_PIECE):
                    pass

    def _send(self, opcode: int, payload: bytes) -> None:
        size = len(payload)
        mask = _MASKED if self._masks else 0
        if size < 126:
            head = bytes((_FINAL | opcode, mask | size))
        elif size < 2**16:
            head = bytes((_FINAL | opcode, mask | 126)) + size.to_bytes(2, "big")
        else:
            head = bytes((_FINAL | opcode, mask | 127)) + size.to_bytes(8, "big")
        if self._masks:
            key = os.urandom(4)
            head, payload = head + key, _masked(payload, key)
        self._writer.write(head + payload)

    async def _frame(self) -> bytes | None:
        """One frame: the payload of the answer to a close, else None."""
        first, second = await self._reader.readexactly(2)
        final, opcode, size = bool(first & _FINAL), first & 0x0F, second & 0x7F
        if first & _RESERVED or opcode not in (_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG):
            raise BrokenRuleError(1002)
        if bool(second & _MASKED) == self._masks or (opcode >= _CLOSE and (not final or size > 125)):
            raise BrokenRuleError(1002)
        if size >= 126:
            size = int.from_bytes(await self._reader.readexactly(2 if size == 126 else 8), "big")
        key = bytes(4) if self._masks else await self._reader.readexactly(4)
        if opcode < _CLOSE:
            await self._data(opcode, size, key, final=final)
            return None
        payload = _masked(await self._reader.readexactly(size), key)
        if opcode == _CLOSE:
            return self._closing(payload)
        if opcode == _PING:
            self._send(_PONG, payload)
        return None

    async def _data(self, opcode: int, size: int, key: bytes, *, final: bool) -> None:
        """A frame of a message; the message goes back when it is whole."""
        if (opcode == _CONTINUATION) != (self._opcode != _CONTINUATION):
            raise BrokenRuleError(1002)
        self._opcode = self._opcode or opcode
        left = size
        while left:
            piece = await self._reader.read(min(left, _PIECE))
            if not piece:
                raise asyncio.IncompleteReadError(b"", left)
            left -= len(piece)
            plain = _masked(piece, key)
            key = key[len(piece) % 4 :] + key[: len(piece) % 4]
            self._judge(plain, final=False)
            self._message += plain
        if final:
            self._judge(b"", final=True)
            self._send(self._opcode, bytes(self._message))
            self._message.clear()
            self._opcode = _CONTINUATION

    def _judge(self, data: bytes, *, final: bool) -> None:
        if self._opcode != _TEXT:
            return
        try:
            self._text.decode(data, final)
        except UnicodeDecodeError:
            raise BrokenRuleError(1007) from None

    def _closing(self, payload: bytes) -> bytes:
        """What answers a close with this payload."""
        if not payload:
            return b""
        if len(payload) == 1 or not _may_be_sent(int.from_bytes(payload[:2], "big")):
            raise BrokenRuleError(1002)
        try:
            payload[2:].decode()
        except UnicodeDecodeError:
            raise BrokenRuleError(1007) from None
        return payload[:2]


async def serve(reader: Reader, writer: Writer, state: Upstream) -> None:
    """A script for `wirekit.upstream`: the server's end."""
    request = await read_request(reader)
    state.requests.append(request)
    await state.note()
    accept = accept_key(request.get("sec-websocket-key") or "")
    writer.write(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %b\r\n\r\n" % accept.encode()
    )
    await Peer(reader, writer, masks=False).run()


async def call(port: int, target: str) -> None:
    """The client's end, opened at `target`, until the server closes."""
    key = base64.b64encode(os.urandom(16)).decode()
    async with dial(port) as wire:
        await wire.send(
            f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        response = await wire.head()
        assert (response.status, response.get("sec-websocket-accept")) == (101, accept_key(key))
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            await Peer(wire.reader, wire.writer, masks=True).run()
