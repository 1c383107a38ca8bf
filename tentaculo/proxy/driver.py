"""The two drivers of an exchange: they wait for what its steps ask for, and take the next steps.

`start` drives in the callbacks of the two sockets, and in a task only while something else than bytes from the upstream
has to be waited for. `run` drives in a task of aiohttp's server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tentaculo.model.failure import UpstreamError
from tentaculo.net.inbound_request import InboundRequest, Request
from tentaculo.net.response_bytes import SentResponse
from tentaculo.proxy.exchange import Exchange
from tentaculo.proxy.proxied_request import JudgedRequest
from tentaculo.proxy.relay import Wait
from tentaculo.proxy.state import ProxyState
from tentaculo.telemetry.request_log import RequestRecord

# Read on every proxied request: a global is a good deal cheaper than an attribute of an enum class.
_UPSTREAM = Wait.UPSTREAM


class DrivenExchange(Exchange):
    """One request. Call `start` or `run` once; `client_closed` when the client closes its connection after `start`."""

    __slots__ = ("_is_driven", "_task", "_waiter")

    def __init__(
        self,
        shared: ProxyState,
        request: Request,
        inbound: InboundRequest,
        record: RequestRecord,
        done: Callable[[bool], None] | None = None,
    ) -> None:
        """`done` is called when the response has been written, with whether the client's connection stays open.

        It is not called if the client has closed the connection. `run` needs none.
        """
        super().__init__(shared, request, inbound, record, done)
        self._is_driven = False
        """Whether a coroutine takes the steps; else callbacks do."""
        self._task: asyncio.Task[None] | None = None
        self._waiter: asyncio.Future[None] | None = None

    def start(self, judged: JudgedRequest | None) -> None:
        """Take the steps in callbacks. `judged` is None for a request that repeats the last one of its connection."""
        wait = self._begin(judged)
        if wait is not None and wait is not _UPSTREAM:
            self._start_task(wait)

    async def run(self, judged: JudgedRequest) -> SentResponse:
        """Take the steps in the caller's task, which is cancelled if the client closes its connection."""
        self._is_driven = True
        wait = self._begin(judged)
        if wait is not None:
            await self._drive(wait)
        return self._response

    def client_closed(self) -> None:
        """End the exchange: the client has closed its connection."""
        self._lose_client()
        # A cancelled task holds this exchange by the frames of its error.
        task, self._task = self._task, None
        if task is not None:
            task.cancel()

    def _start_task(self, wait: Wait) -> None:
        self._is_driven = True
        self._task = self.shared.tasks.start(self._drive(wait), "exchange")

    async def _drive(self, wait: Wait | None) -> None:
        """Wait and take the next steps, until the exchange is over or callbacks can go on with it."""
        try:
            while wait is not None:
                error: UpstreamError | None = None
                try:
                    await self._wait(wait)
                except UpstreamError as failed:
                    error = failed.copy()
                except Exception as other:  # noqa: BLE001 - logged there
                    self._end_with(other)
                    return
                wait = self._go(error)
                if wait is _UPSTREAM and self._done is not None:
                    self._is_driven = False
                    return
        except asyncio.CancelledError:
            self._lose_client()
            raise
        finally:
            self._task = None

    async def _wait(self, wait: Wait) -> None:
        """Wait for one thing. Raises `UpstreamError` for the upstream, `ConnectionError` for the client."""
        if wait is _UPSTREAM:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        elif wait is Wait.CLIENT:
            await self.request.protocol.wait_writable()
            if self._connection is not None:
                self._connection.resume()
        elif wait is Wait.CONNECTION:
            assert self._lease is not None
            self._send(await self._lease.endpoint.pool.connect(self.admitted.plan.connect))
        elif wait is Wait.ROOM:
            plan = self.admitted.plan
            assert plan.balancer is not None
            self._has_turn = await plan.balancer.wait_for_room(plan.connect)
        else:
            assert self._tunnel is not None
            await self._tunnel.wait()

    def _on_progress(self) -> None:
        """More of the response has arrived, or the exchange has failed."""
        if self._is_driven:
            if self._waiter is not None and not self._waiter.done():
                self._waiter.set_result(None)
            return
        wait = self._go()
        if wait is not None and wait is not _UPSTREAM:
            self._start_task(wait)
