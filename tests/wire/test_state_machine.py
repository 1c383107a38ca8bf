"""Any sequence of valid and broken requests on several connections, against a model that does no I/O.

hypothesis chooses the steps and shortens a sequence that goes wrong. The model knows what each step must lead to: the
answers with their order, whether the connection stays, and what the upstream has seen of it, once, in part or never.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
import uvloop
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from tests.conftest import Live, living
from tests.support.wire import Reader, Upstream, Wire, Writer, read_chunked, upstream
from tests.wire.readers import read_framing, read_head

T = TypeVar("T")
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH")
BROKEN = (
    b"GET /s/never-%d HTTP/1.1\r\nHost: h\r\nX : a\r\n\r\n",
    b"GET /s/never-%d HTTP/1.1\r\n\r\n",
    b"GET /s/never-%d HTTP/1.1\nHost: h\n\n",
    b"GET /s/../never-%d HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /s/never-%d HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    b"POST /s/never-%d HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n",
    b"POST /s/never-%d HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5;\rx\r\nabcde\r\n0\r\n\r\n",
    b"CONNECT never-%d:80 HTTP/1.1\r\nHost: h\r\n\r\n",
    b"\x16\x03\x01never-%d\r\n\r\n",
)
REFUSALS = (400, 501)


@dataclass
class Seen:
    """What the upstream has seen, by the number in the target."""

    whole: dict[int, list[tuple[str, bytes]]] = field(default_factory=lambda: defaultdict(list))
    """Method and body of each request that came to its end."""

    async def script(self, reader: Reader, writer: Writer, state: Upstream) -> None:
        """One connection: answers by what the target asks for."""
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            message = read_head(head, 0)
            kind, _, number = message.target.decode().removeprefix("/").rpartition("-")
            method = message.method.decode()
            if kind == "refuse":
                writer.write(b"HTTP/1.1 417 No\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
                return
            if message.values(b"expect"):
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            length = read_framing(message)
            body = await read_chunked(reader) if length is None else await reader.readexactly(length)
            self.whole[int(number)].append((method, body))
            await state.note()
            if kind == "switch":
                writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
                while data := await reader.read(1024):
                    writer.write(data)
                return
            writer.write(_answer(kind, method, int(number), body))


def _answer(kind: str, method: str, number: int, body: bytes) -> bytes:
    text = _text(method, number, body)
    status = b"403 No" if kind == "switch-denied" else b"200 OK"
    head = b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n" % (status, len(text))
    return head if method == "HEAD" else head + text


def _text(method: str, number: int, body: bytes) -> bytes:
    return f"{method} {number} ".encode() + body


@dataclass
class Due:
    """An answer that must come."""

    method: str
    status: int
    body: bytes
    closes: bool


@dataclass
class Line:
    """A client's connection, as it is and as the model has it."""

    wire: Wire
    due: list[Due] = field(default_factory=list)
    takes_more: bool = True
    is_refused: bool = False
    """Whether something broken was sent last: a refusal is due."""


@dataclass
class World:
    """What all sequences share: one gateway and its upstream."""

    runner: asyncio.Runner
    live: Live
    seen: Seen
    count: int = 0

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something to its end, and the gateway beside it."""
        return self.runner.run(work)

    def next(self) -> int:
        """A number that no request has had."""
        self.count += 1
        return self.count


class Sequences(RuleBasedStateMachine):
    """The steps."""

    world: World

    @initialize()
    def begin(self) -> None:
        self.lines: list[Line] = []
        self.must: dict[int, tuple[str, bytes]] = {}
        """What the upstream must have seen, once."""
        self.may: dict[int, tuple[str, bytes]] = {}
        """What it may have seen, once: the client left before the answer."""
        self.first = self.world.count + 1

    def _line(self, index: int) -> Line:
        open_lines = [line for line in self.lines if line.takes_more]
        if not open_lines or (index >= len(open_lines) and len(open_lines) < 3):
            reader, writer = self.world.do(asyncio.open_connection("127.0.0.1", self.world.live.port))
            open_lines = [Line(Wire(reader, writer))]
            self.lines += open_lines
        return open_lines[index % len(open_lines)]

    def _send(self, line: Line, *pieces: bytes) -> None:
        async def send() -> None:
            for piece in pieces:
                await line.wire.send(piece)
                await asyncio.sleep(0)

        self.world.do(send())

    @rule(
        index=st.integers(0, 3),
        method=st.sampled_from(METHODS),
        body=st.one_of(st.none(), st.binary(max_size=40)),
        chunks=st.integers(0, 3),
        version=st.sampled_from(("1.1", "1.1", "1.0", "1.0 kept")),
        closes=st.sampled_from((False, False, False, True)),
        cut=st.integers(0, 200),
    )
    def ask(
        self, index: int, method: str, body: bytes | None, chunks: int, version: str, closes: bool, cut: int
    ) -> None:
        """A valid request, in two segments, without waiting for its answer."""
        line, number = self._line(index), self.world.next()
        closes = closes or version == "1.0"
        head = f"{method} /s/ask-{number} HTTP/{version[:3]}\r\nHost: h\r\n"
        head += "Connection: close\r\n" if closes else "Connection: keep-alive\r\n" if version == "1.0 kept" else ""
        data = head.encode() + _framed(body, chunks if version == "1.1" else 0)
        self._send(line, data[:cut], data[cut:])
        line.due.append(Due(method, 200, _text(method, number, body or b""), closes))
        line.takes_more = not closes
        self.must[number] = (method, body or b"")

    @rule(index=st.integers(0, 3), template=st.sampled_from(BROKEN), behind=st.booleans())
    def break_off(self, index: int, template: bytes, behind: bool) -> None:
        """Something that is no request, and perhaps a request behind it that must not be taken for one."""
        line, number = self._line(index), self.world.next()
        self.read(line)
        hidden = b"GET /s/never-%d HTTP/1.1\r\nHost: h\r\n\r\n" % self.world.next() if behind else b""
        self._send(line, template % number + hidden)
        line.takes_more, line.is_refused = False, True

    @rule(index=st.integers(0, 3), sent=st.integers(0, 19), chunked=st.booleans())
    def cut_upload(self, index: int, sent: int, chunked: bool) -> None:
        """A client that leaves in the middle of its body: the upstream must not take it for whole."""
        line, number = self._line(index), self.world.next()
        self.read(line)
        head = b"PUT /s/never-%d HTTP/1.1\r\nHost: h\r\n" % number
        framing = b"Transfer-Encoding: chunked\r\n\r\n14\r\n" if chunked else b"Content-Length: 20\r\n\r\n"
        self._send(line, head + framing, b"x" * sent)
        self._leave(line)

    @rule(index=st.integers(0, 3), refused=st.booleans(), chunks=st.integers(0, 2))
    def expect(self, index: int, refused: bool, chunks: int) -> None:
        """Expect: 100-continue is the upstream's to answer; the body follows only if it is wanted."""
        line, number = self._line(index), self.world.next()
        self.read(line)
        kind, body = "refuse" if refused else "ask", b"expected"
        framed = _framed(body, chunks)
        framing, _, content = framed.partition(b"\r\n\r\n")
        head = f"POST /s/{kind}-{number} HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n".encode()
        self._send(line, head + framing + b"\r\n\r\n")
        if refused:
            response = self.world.do(line.wire.response())
            assert (response.status, response.body, response.get("connection")) == (417, b"no", "close")
            # Its body is still to come: nothing that the client sends now is a request.
            self._send(line, b"GET /s/never-%d HTTP/1.1\r\nHost: h\r\n\r\n" % number)
            self._leave(line)
            return
        assert self.world.do(line.wire.head()).status == 100
        self._send(line, content)
        line.due.append(Due("POST", 200, _text("POST", number, body), closes=False))
        self.must[number] = ("POST", body)
        self.read(line)

    @rule(index=st.integers(0, 3), accepted=st.booleans(), data=st.binary(min_size=1, max_size=50))
    def upgrade(self, index: int, accepted: bool, data: bytes) -> None:
        """An upgrade is a tunnel where the upstream agrees, else a request like any other."""
        line, number = self._line(index), self.world.next()
        self.read(line)
        kind = "switch" if accepted else "switch-denied"
        head = f"GET /s/{kind}-{number} HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
        self._send(line, head.encode())
        self.must[number] = ("GET", b"")
        if not accepted:
            line.due.append(Due("GET", 403, _text("GET", number, b""), closes=False))
            return
        assert self.world.do(line.wire.response()).status == 101
        self._send(line, data)
        assert self.world.do(asyncio.wait_for(line.wire.reader.readexactly(len(data)), 5)) == data
        self._leave(line)

    @precondition(lambda self: self.lines)
    @rule(index=st.integers(0, 5))
    def read_all(self, index: int) -> None:
        """Take the answers that are due."""
        self.read(self.lines[index % len(self.lines)])

    @precondition(lambda self: any(line.due for line in self.lines))
    @rule(index=st.integers(0, 5))
    def leave(self, index: int) -> None:
        """A client that does not wait for its answers."""
        waiting = [line for line in self.lines if line.due]
        line = waiting[index % len(waiting)]
        for due in line.due:
            number = int(due.body.split(b" ")[1])
            self.may[number] = self.must.pop(number)
        self._leave(line)

    def _leave(self, line: Line) -> None:
        line.wire.abort()
        self.lines.remove(line)

    def read(self, line: Line) -> None:
        """Each answer is that of its request, in order, and the connection is as it says."""

        async def read() -> None:
            for due in line.due:
                response = await line.wire.response(due.method)
                body = b"" if due.method == "HEAD" else due.body
                assert (response.status, response.body) == (due.status, body)
                assert (response.get("connection") == "close") is due.closes
            line.due.clear()
            if line.is_refused:
                response = await line.wire.response()
                assert response.status in REFUSALS
                assert response.get("connection") == "close"
            if not line.takes_more:
                assert await line.wire.rest() == b""

        self.world.do(read())
        if not line.takes_more:
            self._leave(line)

    def teardown(self) -> None:
        """At the end everything due comes, and the upstream has seen what it must and nothing else."""
        for line in list(self.lines):
            self.read(line)
            if line in self.lines:
                self._leave(line)
        whole = self.world.seen.whole
        for number in range(self.first, self.world.count + 1):
            seen, must = whole.pop(number, []), self.must.get(number)
            if must is not None:
                assert seen == [must]
            else:
                assert seen in ([], [self.may.get(number)])


def _framed(body: bytes | None, chunks: int) -> bytes:
    if body is None:
        return b"\r\n"
    if not chunks:
        return b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    step = max(1, -(-len(body) // chunks))
    pieces = [body[position : position + step] for position in range(0, len(body), step)]
    sent = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return b"Transfer-Encoding: chunked\r\n\r\n" + sent + b"0\r\n\r\n"


@contextmanager
def _world(folder: Path) -> Iterator[World]:
    seen = Seen()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        server = upstream(seen.script)
        up = runner.run(server.__aenter__())
        route = {"prefix": "/s", "strip": True, "auth": "none"}
        gateway = living(
            folder, {"s": {"url": f"http://127.0.0.1:{up.port}", "routes": [route], "breaker": {"failures": 1_000_000}}}
        )
        live = runner.run(gateway.__aenter__())
        try:
            yield World(runner, live, seen)
        finally:
            runner.run(gateway.__aexit__(None, None, None))
            runner.run(server.__aexit__(None, None, None))


@pytest.mark.thorough
@pytest.mark.timeout(240)
@pytest.mark.usefixtures("only_warnings")
def test_any_sequence_leads_where_the_model_says(tmp_path: Path) -> None:
    with _world(tmp_path) as world:
        machine = type("Sequences", (Sequences,), {"world": world})
        run_state_machine_as_test(
            machine, settings=settings(max_examples=60, stateful_step_count=30, deadline=None, database=None)
        )
