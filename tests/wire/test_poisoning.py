"""Poisoned connections: whatever an upstream answers, nobody gets a byte of an answer that was meant for another.

A keep-alive upstream answers A ambiguously and sends, behind its answer or in it, what looks like a second one. A may
get what the answer's framing says, or an error; the next request over the same connections must get its own response.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.conftest import Live, Start
from tests.support.wire import (
    Reader,
    Response,
    Upstream,
    Wire,
    Writer,
    dial,
    ok,
    read_request,
    upstream,
)
from tests.wire.trials import Tally
from tests.wire.tricks import Meaning, Trick, read_answer, tricks

LANES = 24
"""Services, each with an upstream of its own, on which tricks are played at the same time."""
FORGIVEN = {"many zeros", "endless extension", "folded trailer"}
"""Chunk forms that are clear, and that a gateway may refuse."""


@dataclass
class Lane:
    """One service and the trick that its upstream plays."""

    prefix: str
    trick: Trick = field(default_factory=Trick)
    sent: asyncio.Event = field(default_factory=asyncio.Event)
    ends: bool = False
    """Whether the upstream closes behind the trick."""

    async def script(self, reader: Reader, writer: Writer, state: Upstream) -> None:
        """Play the trick on `/a`, answer everything else by its own name."""
        while True:
            request = await read_request(reader)
            if request.target != "/a":
                writer.write(ok(b"own " + request.target.encode()))
                continue
            for piece in self.trick.pieces():
                writer.write(piece)
                await asyncio.sleep(0)  # each piece in a segment of its own
            self.sent.set()
            if self.ends:
                return


async def _ask(wire: Wire, method: bytes, target: str) -> Response | None:
    """One answer, None where the connection ended before it was whole."""
    body = b"Content-Length: 1\r\n\r\nx" if method == b"POST" else b"\r\n"
    with suppress(asyncio.IncompleteReadError, ConnectionError):
        await wire.send(b"%b %b HTTP/1.1\r\nHost: h\r\n%b" % (method, target.encode(), body))
        return await wire.response(method.decode())
    return None


async def _play(lane: Lane, trick: Trick, number: int, live: Live) -> str:
    """Play one trick; what went wrong, empty where nothing did."""
    meaning = read_answer(b"".join(trick.pieces()), trick.method)
    lane.trick, lane.ends = trick, meaning.kind in ("until close", "incomplete")
    lane.sent.clear()
    async with dial(live.port) as wire:
        answer = await _ask(wire, trick.method, f"{lane.prefix}/a")
        await lane.sent.wait()
        if fault := _judge(answer, meaning, trick):
            return fault
        if answer is not None and answer.get("connection") != "close":
            again = await _ask(wire, b"GET", f"{lane.prefix}/again-{number}")
            if again is None or again.body != b"own /again-%d" % number:
                return f"A's next request was answered {again}"
        elif rest := await wire.rest():
            return f"A got more: {rest!r}"
    async with dial(live.port) as wire:
        other = await _ask(wire, b"GET", f"{lane.prefix}/other-{number}")
    if other is None or other.body != b"own /other-%d" % number:
        return f"B was answered {other}"
    return ""


def _judge(answer: Response | None, meaning: Meaning, trick: Trick) -> str:
    is_refused = answer is None or answer.status == 502
    if meaning.kind in ("broken", "incomplete"):
        return "" if is_refused else f"A was answered {answer}"
    if is_refused:
        return "" if trick.body in FORGIVEN else f"A was refused: {answer}"
    assert answer is not None
    if (answer.status, answer.body) != (meaning.status, meaning.body):
        return f"A was answered {answer}"
    return ""


@pytest.mark.timeout(240)
@pytest.mark.usefixtures("only_warnings")
async def test_no_answer_reaches_anyone_but_who_asked(start: Start) -> None:
    tally, waiting = Tally(), enumerate(tricks())
    lanes = [Lane(f"/lane{number}") for number in range(LANES)]
    async with AsyncExitStack() as stack:
        ups = [await stack.enter_async_context(upstream(lane.script)) for lane in lanes]
        live = await start({lane.prefix[1:]: _service(lane, up.port) for lane, up in zip(lanes, ups, strict=True)})

        async def work(lane: Lane) -> None:
            for number, trick in waiting:
                fault = await _play(lane, trick, number, live)
                tally.kinds[read_answer(b"".join(trick.pieces()), trick.method).kind] += 1
                if fault:
                    tally.faults.append(f"{trick}\n  sent {trick.pieces()}\n  {fault}")

        await asyncio.gather(*map(work, lanes))
    assert not tally.faults, f"{len(tally.faults)} faults, such as\n" + "\n".join(tally.faults[:10])
    assert min(tally.kinds[kind] for kind in ("whole", "broken", "incomplete", "until close")) > 20


def _service(lane: Lane, port: int) -> dict[str, Any]:
    route = {"prefix": lane.prefix, "strip": True, "auth": "none"}
    return {"url": f"http://127.0.0.1:{port}", "routes": [route], "breaker": {"failures": 1_000_000}}
