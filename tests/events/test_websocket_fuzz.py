"""Frames of every kind at `/ws`: nothing ends the gateway, leaks a connection, or reaches another client in a broken form."""

from __future__ import annotations

import asyncio
import itertools
import json
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.event_audience import Audience
from tests.support.event_clients import HANDSHAKE
from tests.support.threaded_gateway import BODY_LIMIT, ThreadedGateway

ALERT = {"type": "system.alert", "alert_id": "a", "severity": "L1", "message": "m"}
TEXT, BINARY, CLOSE, PING = 1, 2, 8, 9
ABNORMAL = {1002, 1007, 1009, 1003}


class Sent(NamedTuple):
    """A frame of the client."""

    opcode: int
    payload: bytes
    is_final: bool = True
    reserved: int = 0
    is_masked: bool = True
    claimed: int | None = None
    """The length that its head says, where it is not that of the payload."""
    is_long: bool = False
    """Whether the length has eight bytes, however small it is."""

    def encode(self) -> bytes:
        length = len(self.payload) if self.claimed is None else self.claimed
        mask = b"\x01\x80\xfe\x20" if self.is_masked else b""
        bit = 0x80 if self.is_masked else 0
        head = bytes([self.is_final << 7 | self.reserved << 4 | self.opcode])
        if length < 126 and not self.is_long:
            head += bytes([bit | length])
        elif length < 2**16 and not self.is_long:
            head += bytes([bit | 126]) + length.to_bytes(2, "big")
        else:
            head += bytes([bit | 127]) + length.to_bytes(8, "big")
        masked = (
            bytes(a ^ b for a, b in zip(self.payload, itertools.cycle(mask), strict=False)) if mask else self.payload
        )
        return head + mask + masked


def deflated(data: bytes) -> bytes:
    made = zlib.compressobj(wbits=-15)
    return (made.compress(data) + made.flush(zlib.Z_SYNC_FLUSH))[:-4]


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
VALUES = st.recursive(
    SCALARS, lambda one: st.lists(one, max_size=3) | st.dictionaries(st.text(max_size=5), one, max_size=3)
)
ALERTS = st.dictionaries(
    st.sampled_from([*ALERT, "source", "timestamp", "channel", "event_id", "id"]), VALUES, max_size=4
).map(lambda more: {**ALERT, **more})
TEXTS = (
    ALERTS.map(lambda value: json.dumps({**value, "type": ALERT["type"]}).encode())
    | VALUES.map(lambda value: json.dumps(value).encode("utf-8", "surrogatepass"))
    | st.binary(max_size=150)
    | st.sampled_from(
        (b"[" * 3000, b'{"a":' * 100, b"\xff\xfe", b"\xed\xa0\x80", b"{}", b'{"pad":"' + b"x" * BODY_LIMIT + b'"}')
    )
    | st.binary(max_size=60).map(deflated)
)
SOUND = st.tuples(st.sampled_from((TEXT, TEXT, TEXT, BINARY, PING, 10)), TEXTS).map(lambda drawn: Sent(*drawn))
CODES = st.integers(0, 2**16 - 1).map(lambda code: code.to_bytes(2, "big"))
CLOSES = (st.binary(max_size=130) | CODES).map(lambda payload: Sent(CLOSE, payload))
ODD = st.builds(
    Sent,
    st.integers(0, 15),
    TEXTS,
    is_final=st.booleans(),
    reserved=st.sampled_from((0, 0, 0, 1, 2, 4, 7)),
    is_masked=st.sampled_from((True, True, True, False)),
    claimed=st.none() | st.integers(0, 2**16) | st.sampled_from((2**31, 2**63 - 1, 2**63, 2**64 - 1)),
    is_long=st.booleans(),
)
FRAGMENTS = st.tuples(TEXTS, st.integers(0, 200)).map(
    lambda drawn: [
        Sent(TEXT, drawn[0][: drawn[1]], is_final=False),
        Sent(PING, b"between"),
        Sent(0, drawn[0][drawn[1] :]),
    ]
)
FRAMES = st.lists(
    SOUND.map(lambda one: [one]) | FRAGMENTS | ODD.map(lambda one: [one]) | CLOSES.map(lambda one: [one]), max_size=5
)


def server_frames(data: bytes) -> list[tuple[int, bytes]]:
    """The opcodes and payloads of the server's frames, the last of which may be cut off; each has the right form."""
    found = list[tuple[int, bytes]]()
    while len(data) >= 2:
        assert data[0] & 0x70 == 0, "no reserved bit"
        assert data[0] & 0x80, "no fragment"
        assert not data[1] & 0x80, "no mask"
        size, start = data[1] & 0x7F, 2
        if size > 125:
            start = 4 if size == 126 else 10
            size = int.from_bytes(data[2:start], "big")
        if len(data) < start + size:
            break
        found.append((data[0] & 15, data[start : start + size]))
        data = data[start + size :]
    return found


@pytest.fixture(scope="module")
def gateway() -> Iterator[ThreadedGateway]:
    one = ThreadedGateway()
    yield one
    one.stop()


@pytest.fixture(scope="module")
def audience(gateway: ThreadedGateway) -> Iterator[Audience]:
    one = Audience(gateway)
    yield one
    gateway.run(one.close())
    gateway.run(gateway.wait_until(0, 0))


def fails_the_connection(frame: Sent) -> bool:
    """Whether the server may close at this frame, so that it does not read what is behind it (RFC 6455, 7.1.7)."""
    if frame.opcode >= CLOSE:
        return frame.opcode == CLOSE or len(frame.payload) > 125 or frame != Sent(frame.opcode, frame.payload)
    try:
        frame.payload.decode()
    except UnicodeDecodeError:
        return frame.opcode != BINARY
    return frame._replace(is_final=True) != Sent(frame.opcode, frame.payload) or frame.opcode not in (0, TEXT, BINARY)


async def converse(
    gateway: ThreadedGateway, sent: bytes, *, ends: str, may_reset: bool = True
) -> list[tuple[int, bytes]]:
    """What the server sends to a client that sends these bytes, and then closes or breaks off.

    `may_reset` is whether it may close with unread bytes, which TCP turns into a reset.
    """
    async with gateway.dial() as (reader, writer):
        writer.write(HANDSHAKE.format(path="/ws").encode())
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        assert head.startswith(b"HTTP/1.1 101 ")
        writer.write(sent)
        if ends == "abort":
            return []
        if ends == "close":
            writer.write(Sent(CLOSE, (1000).to_bytes(2, "big")).encode())
        # A frame that is never whole would take the close frame for its own bytes.
        writer.write_eof()
        received = b""
        try:
            while data := await asyncio.wait_for(reader.read(65536), 10):
                received += data
        except ConnectionResetError:
            assert may_reset
        return server_frames(received)


def check_responses(frames: list[tuple[int, bytes]]) -> None:
    for opcode, payload in frames:
        assert opcode in (TEXT, CLOSE, 10)
        if opcode == TEXT:
            assert isinstance(json.loads(payload), dict)
        if opcode == CLOSE:
            assert len(payload) >= 2
            code = int.from_bytes(payload[:2], "big")
            assert code in ABNORMAL | {1000, 1001} or 3000 <= code < 5000 or code in range(1000, 1015)
            payload[2:].decode()
    assert [opcode for opcode, _ in frames].count(CLOSE) <= 1


def run_example(gateway: ThreadedGateway, audience: Audience, groups: list[list[Sent]], ends: str) -> None:
    frames = [frame for group in groups for frame in group]
    may_reset = any(map(fails_the_connection, frames)) or any(frame.opcode == 0 for (frame, *_) in groups)
    sent = b"".join(frame.encode() for frame in frames)
    check_responses(gateway.run(converse(gateway, sent, ends=ends, may_reset=may_reset)))
    gateway.run(audience.check())


ENDS = st.sampled_from(("close", "half", "abort"))


@pytest.mark.thorough
@settings(max_examples=150)
@given(groups=FRAMES, ends=ENDS)
@example(groups=[[Sent(TEXT, b"{}", claimed=2**64 - 1)]], ends="close")
@example(groups=[[Sent(TEXT, b"\xc3", is_final=False), Sent(0, b"\xa9")]], ends="close")
@example(groups=[[Sent(0, b"{}")], [Sent(TEXT, json.dumps(ALERT).encode())]], ends="close")
@example(groups=[[Sent(PING, b"x" * 126)]], ends="close")
@example(groups=[[Sent(TEXT, deflated(json.dumps(ALERT).encode()), reserved=4)]], ends="close")
@example(groups=[[Sent(TEXT, json.dumps({**ALERT, "message": "\ud800"}).encode())]], ends="close")
def test_no_frame_breaks_anything(
    gateway: ThreadedGateway, audience: Audience, groups: list[list[Sent]], ends: str
) -> None:
    run_example(gateway, audience, groups, ends)


@pytest.mark.thorough
@pytest.mark.timeout(300)
@settings(max_examples=1000, deadline=None)
@given(groups=FRAMES, ends=ENDS)
def test_no_frame_breaks_anything_in_thousands(
    gateway: ThreadedGateway, audience: Audience, groups: list[list[Sent]], ends: str
) -> None:
    run_example(gateway, audience, groups, ends)


@settings(max_examples=60)
@given(data=st.binary(max_size=400), ends=ENDS)
def test_no_bytes_break_anything(gateway: ThreadedGateway, audience: Audience, data: bytes, ends: str) -> None:
    check_responses(gateway.run(converse(gateway, data, ends=ends)))
    gateway.run(audience.check())


def test_a_valid_alert_reaches_the_audience_whatever_came_before(gateway: ThreadedGateway, audience: Audience) -> None:
    before = audience.checked
    run_example(gateway, audience, [[Sent(TEXT, json.dumps(ALERT).encode())]], "close")
    assert audience.checked == before + 2, "the alert and the marker"
