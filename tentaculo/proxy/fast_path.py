"""A visit without a task, for as long as there is nothing to wait for but the upstream's whole answer.

Most requests of a fleet are like that: no body or one that has arrived, an idle connection to the upstream, an answer
that comes at once. Then the bytes go from one socket's callback to the other's. Whatever else it turns out to be, the
same steps go on in a task (`attempts.py`), with the request where it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from tentaculo.model.endpoint import Outcome
from tentaculo.model.failure import Failure, Problem
from tentaculo.net.inbound_request import Body, Request
from tentaculo.net.response_bytes import SENT_CLOSES, SENT_STAYS, SentResponse
from tentaculo.proxy import relay
from tentaculo.proxy.proxied_request import JudgedRequest, ProxiedRequest, finish_with
from tentaculo.proxy.request_head import PreparedRequest
from tentaculo.proxy.response_head import cached_head
from tentaculo.proxy.retries import forward_with_retries, request_body
from tentaculo.proxy.state import ProxyState
from tentaculo.upstream.connection import UpstreamConnection
from tentaculo.upstream.errors import outcome_of
from tentaculo.upstream.load_balancer import Lease


class WholeRequest(Request, Protocol):
    """A request whose body has arrived whole if it has one. The same object may come again for the same bytes."""

    remembered: object | None
    """For the proxy to keep what it decided about it."""


class FastPath(ProxiedRequest):
    """One request. `start` it once; `client_closed` when its client goes."""

    __slots__ = ("_body", "_done", "_has_left", "_lease", "_size", "_task", "_upstream")

    def __init__(
        self, shared: ProxyState, request: WholeRequest, done: Callable[[bool], None], judged: JudgedRequest | None
    ) -> None:
        """`judged` is None for a request that repeats the last one of its connection.

        `done` is called when the response has been written, with whether the client's connection stays open. It is not
        called if the client has closed the connection.
        """
        known = request.remembered
        if type(known) is PreparedRequest:
            inbound = known.inbound
            record = shared.requests.begin(
                inbound.method, inbound.path, inbound.client.address, inbound.forwarded_by_trusted
            )
            record.service = known.plan.service_name
            super().__init__(shared, request, inbound, record)
            self.admitted = known
        else:
            assert judged is not None
            super().__init__(shared, request, judged.inbound, judged.record)
        self._done = done
        self._body: Body | None = None
        self._size = 0
        self._lease: Lease | None = None
        self._upstream: UpstreamConnection | None = None
        self._task: asyncio.Task[None] | None = None
        self._has_left = False

    def start(self, request: WholeRequest, judged: JudgedRequest | None) -> None:
        """Take all steps that can be taken at once."""
        self.shared.traffic.begin()
        sent: SentResponse | None = None
        try:
            if judged is not None:
                sent = self.prepare(judged)
                if sent is None and self.admitted.plan.is_static:
                    request.remembered = self.admitted
            if sent is None and not self._send():
                self._go_on()
                return
        except Problem as problem:
            sent = self.refuse(problem)
        except Exception:  # noqa: BLE001 - logged there
            self._release(Outcome.NEUTRAL, "")
            sent = self.fail()
        if sent is not None:
            self._finish(sent)

    def client_closed(self) -> None:
        """The client has gone: so has the request."""
        if self._task is not None:
            # Behind its first step: a task that is cancelled before that never gives back what it was given.
            self._task.get_loop().call_soon(self._task.cancel)
        elif not self._has_left:
            self._has_left = True
            self.record.received = self._size
            self._release(Outcome.NEUTRAL, "")
            self.note_client_closed()
            self.finish()

    def _send(self) -> bool:
        """Steps 4 and 5: put the request on an idle connection. False where something has to be waited for."""
        inbound, admitted = self.inbound, self.admitted
        balancer = admitted.plan.balancer
        body = self._body = request_body(self)
        if balancer is None or balancer.has_queue or inbound.is_chunked or inbound.fields.expect is not None:
            return False
        lease = self._lease = balancer.acquire()
        if lease is None:
            return False
        upstream = lease.endpoint.pool.take_idle(repeatable=inbound.method in relay.IDEMPOTENT)
        if upstream is None:
            return False
        self._upstream = upstream
        self.shared.under_way.add(upstream)
        upstream.begin(inbound.method)
        head = admitted.head(self.id_line)
        if body is not None:
            data = body.read_nowait()
            self._size = len(data)
            head += data
        upstream.write(head)
        upstream.is_request_whole = True
        upstream.limit(admitted.plan.first_byte, Failure.FIRST_BYTE_TIMEOUT)
        upstream.on_progress = self._on_progress
        return True

    def _on_progress(self) -> None:
        upstream = self._upstream
        assert upstream is not None
        answer = upstream.answer
        if answer.is_whole and not answer.interim and not answer.is_switching and not upstream.has_failed:
            try:
                sent = self._relay(upstream)
            except ConnectionError:
                self.client_closed()
                self._done(False)
                return
            except Exception:  # noqa: BLE001 - logged there
                self._release(Outcome.NEUTRAL, "")
                sent = self.fail()
            self._finish(sent)
        elif answer.head is not None or answer.interim or upstream.has_failed:
            self._go_on()

    def _relay(self, upstream: UpstreamConnection) -> SentResponse:
        """The whole answer in one write, and the connection back to its pool."""
        inbound, admitted, answer = self.inbound, self.admitted, upstream.answer
        plan, lease, record = admitted.plan, self._lease, self.record
        head, fields = answer.head, answer.fields
        assert head is not None
        assert fields is not None
        assert lease is not None
        body = b"".join(upstream.take())
        closes = self.shared.is_draining
        keep_alive = self.keep_alive and not closes
        known = cached_head(fields, plan, inbound.method, inbound.minor, keep_alive, admitted.cors_lines != b"")
        if known is not None and not plan.response_rules:
            keep_alive = known.keep_alive
            framed = relay.framed_whole(body) if known.is_chunked else body
            self.write(b"%b%b%b\r\n%b" % (known.head, self.id_lines, admitted.cors_lines, framed))
        else:
            writer = self.response_writer()
            writer.upstream = lease.endpoint.pool.upstream
            block, is_chunked = writer.final(head, fields, closes)
            keep_alive = writer.keep_alive
            self.write(block + (relay.framed_whole(body) if is_chunked else body))
        record.status, record.sent, record.received = head.status, len(body), self._size
        self._release(*outcome_of(head.status))
        return SENT_STAYS if keep_alive else SENT_CLOSES

    def _release(self, outcome: Outcome, reason: str) -> None:
        """Give back what the request held, and report how it went (6)."""
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.on_progress = None
            self.shared.under_way.discard(upstream)
        lease, self._lease = self._lease, None
        if lease is None:
            return
        if upstream is not None:
            lease.endpoint.pool.give_back(upstream)
        lease.release(outcome, reason)

    def _go_on(self) -> None:
        """From here on in a task."""
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.on_progress = None
        self._task = self.shared.tasks.start(self._forward(upstream), "visit")

    async def _forward(self, begun: UpstreamConnection | None) -> None:
        stays = False
        try:
            sent = await finish_with(self, forward_with_retries(self, self._body, self._lease, begun))
            stays = sent.keep_alive is True
        except ConnectionError:
            pass  # noted; what is left of the client's connection is closed
        finally:
            self.finish()
            # A cancelled task holds this, by its error's frames.
            self._task, self._has_left = None, True
        self._done(stays)

    def _finish(self, sent: SentResponse) -> None:
        self.shared.requests.finish(self.record)
        self._done(sent.keep_alive is True)
