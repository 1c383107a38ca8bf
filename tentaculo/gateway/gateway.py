"""The composition root of the server: opens the rooms, joins them, and closes them in order.

request = front → native application (middleware → handler), or → proxy
health  = fleet: watch → probe → board → recorder
event   = ingest or ws → recorder and hub → subscribers
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self, cast

from aiohttp import web

from tentaculo.config.database_url import database_url
from tentaculo.config.schema import Config
from tentaculo.events import endpoints as event_routes
from tentaculo.events.hub import Hub
from tentaculo.events.ids import EventIds
from tentaculo.gateway.coordination import Coordination
from tentaculo.gateway.health_service import HealthService
from tentaculo.gateway.incident_service import IncidentService
from tentaculo.model.clock import utc_now
from tentaculo.model.failure import Failure, Problem
from tentaculo.model.health import Health, ProbeResult
from tentaculo.net.target import request_path
from tentaculo.net.tcp import keep_alive, limit_stall
from tentaculo.proxy.handler import Proxy
from tentaculo.proxy.state import ProxyDependencies
from tentaculo.security.cors import CorsPolicy
from tentaculo.security.tokens import Tokens
from tentaculo.server import middleware, problems, templating
from tentaculo.server.buffered_request import BufferedRequest
from tentaculo.server.connection import ClientConnection
from tentaculo.server.connection_limits import ConnectionLimits
from tentaculo.server.fast_path import ActiveRequest, TryServe
from tentaculo.server.lifecycle import Phase
from tentaculo.server.listeners import CannotListenError, Listeners, ListeningAddresses
from tentaculo.server.native_paths import NativePaths
from tentaculo.server.request_scheduler import RequestScheduler
from tentaculo.store.client import StoreClient
from tentaculo.tasks import TaskGroup
from tentaculo.telemetry.history import TakeTallies
from tentaculo.telemetry.request_record import RequestRecord
from tentaculo.web import heartbeat, history, incidents, liveness, metrics, status_page, vx11

CannotListen = CannotListenError
Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

_CLOSE_WAIT = 0.5
"""Seconds that handlers get to end by themselves once the grace is over, and again once they are cancelled."""


class Gateway:
    """One gateway, as an asynchronous context manager: it takes requests from entering to leaving."""

    def __init__(
        self,
        config: Config,
        hashes: Sequence[str],
        *,
        access_log: Callable[[RequestRecord], None] | None = None,
        hurry: asyncio.Event | None = None,
        probes: bool = True,
        at_once: bool = True,
        colleagues: Coordination | None = None,
    ) -> None:
        """`hurry`, when set, ends the wait for requests in flight. `probes`: whether anything is probed and told of.

        `at_once`: whether requests are served without a task where they can be; it changes nothing but their cost.
        `colleagues` are the other workers of this gateway, where there are any.
        """
        self._config = config
        self._access_log = access_log
        self._hurry = hurry or asyncio.Event()
        self._probes = probes
        self._serves_at_once = at_once
        self._colleagues = colleagues
        self._name = colleagues.name if colleagues else f"tentaculo-link-{secrets.token_hex(4)}"
        self._phase = Phase.STARTING
        self._stack = AsyncExitStack()
        self._tasks = TaskGroup("gateway")
        self._listeners = Listeners()
        self._admission = ConnectionLimits(config.limits.connections, config.limits.connections_per_address)
        self._tokens = Tokens(hashes, enabled=config.auth.enabled)
        self._cors = CorsPolicy(config.cors)
        self._recorder = StoreClient(database_url(config))
        self.fleet = HealthService(config, self._recorder)
        self.desk = IncidentService(config, self.fleet, self._recorder, page=self._page)
        self.hub = Hub(limit=config.limits.subscribers, queue=config.limits.subscriber_queue)
        self.proxy = Proxy(config, self._proxy_needs())
        self.fleet.on_probe.append(self._inform_proxy)

    def __repr__(self) -> str:
        return f"<Gateway {self._phase.value}, {len(self._config.services)} services>"

    @property
    def running(self) -> ListeningAddresses:
        """Where it listens."""
        return ListeningAddresses(tuple(self._listeners.bound))

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._drain()
        await self._stack.aclose()

    async def _start(self) -> None:
        """Open what is below first: leaving closes in the opposite order."""
        self._stack.push_async_callback(self._recorder.close)
        await self._recorder.start()
        self._stack.push_async_callback(self._tasks.close)
        runner = web.AppRunner(
            self._application(), handler_cancellation=True, access_log=None, shutdown_timeout=_CLOSE_WAIT
        )
        self._stack.push_async_callback(runner.cleanup)
        await runner.setup()
        server = cast(web.Server, runner.server)
        native = server.request_handler
        own = NativePaths.of(runner.app)
        server.request_handler = self._front(native, own)
        serve = self._at_once(own) if self._serves_at_once else None
        self._stack.push_async_callback(self.proxy.close)
        turns = RequestScheduler(asyncio.get_running_loop())
        await self._listeners.open(
            lambda: self._connection(server, serve, turns),
            self._config.server.addresses,
            share=self._colleagues is not None,
        )
        self._stack.push_async_callback(self._listeners.close)
        for sock in self._listeners.sockets:
            keep_alive(sock)
            limit_stall(sock, self._config.limits.stall)
        drain: TakeTallies = self.proxy.traffic.drain
        if self._colleagues is not None:
            drain = await self._stack.enter_async_context(self._colleagues.joined(self.fleet, self.desk.books, drain))
        if self._colleagues is None or self._colleagues.leads:
            await self._lead(drain)
        self._phase = Phase.READY

    async def _lead(self, drain: TakeTallies) -> None:
        """What one process does for all: keep what is met, probe, and tell of it."""
        await self._stack.enter_async_context(self.fleet.remembered(drain))
        if self._probes:
            await self._stack.enter_async_context(self.desk.attended())
            await self._stack.enter_async_context(self.fleet.watched())

    async def _drain(self) -> None:
        """Take nothing new, part with those who only listen, and wait for the requests in flight."""
        self._phase = Phase.DRAINING
        await self._listeners.close()
        self.proxy.drain()
        await self.hub.close()
        waits = TaskGroup("drain")
        waiting = [waits.start(self.proxy.traffic.idle(), "idle"), waits.start(self._hurry.wait(), "hurry")]
        await asyncio.wait(waiting, timeout=self._config.server.grace, return_when=asyncio.FIRST_COMPLETED)
        self.proxy.stop()
        await asyncio.wait(waiting[:1], timeout=_CLOSE_WAIT)
        await waits.close()

    # -- requests ----------------------------------------------------------------------------------------------

    def _front(self, native: Handler, own: NativePaths) -> Handler:
        """The gateway's own paths win over every route."""
        proxy, paths, trees = self.proxy.handle, own.paths, own.trees

        async def front(request: web.BaseRequest) -> web.StreamResponse:
            try:
                path = request_path(request.method, request.raw_path)
                if path in paths or path.startswith(trees):
                    response = await self._serve_native(native, request, path)
                    if self._phase is Phase.DRAINING:
                        response.force_close()
                    return response
                return await proxy(request)
            finally:
                cast(ClientConnection, request.protocol).answered()

        return front

    def _at_once(self, own: NativePaths) -> TryServe:
        """The same for requests that may be served without a task: the gateway's own paths go the ordinary way."""
        proxy, paths, trees = self.proxy.serve, own.paths, own.trees

        def serve(request: BufferedRequest, done: Callable[[bool], None]) -> ActiveRequest | None:
            if request.remembered is None:
                path = request_path(request.method, request.raw_path)
                if path in paths or path.startswith(trees):
                    return None
            return proxy(request, done)

        return serve

    async def _serve_native(self, native: Handler, request: web.BaseRequest, path: str) -> web.StreamResponse:
        if (refusal := self.proxy.screen(request)) is not None:
            return refusal
        if not request.path:
            # `http://host` names the root (RFC 9110 section 4.2.3), which aiohttp's router does not know.
            request = request.clone(rel_url="/")
        if self._access_log is None:
            return await native(request)
        started = time.perf_counter()
        record = RequestRecord(request.method, path, Failure.CLIENT_LEFT.status, 0.0, request.remote or "", "")
        try:
            response = await native(request)
            record.status = response.status
            if isinstance(response, web.Response) and isinstance(response.body, bytes):
                record.sent = len(response.body)
            return response
        finally:
            record.seconds = time.perf_counter() - started
            record.received = request.content.total_bytes
            record.request_id = middleware.request_id(cast(web.Request, request))
            self._access_log(record)

    def _connection(self, server: web.Server, serve: TryServe | None, turns: RequestScheduler) -> ClientConnection:
        return ClientConnection(
            server,
            loop=asyncio.get_running_loop(),
            limits=self._config.limits,
            keepalive=self._config.server.keepalive,
            render=problems.render,
            admission=self._admission,
            turns=turns,
            name=self._name,
            serve=serve,
            on_refused=self._note_refusal,
        )

    def _note_refusal(self, peer: str, request_id: str, problem: Problem) -> None:
        """Something came that never became a request: it has a line in the log all the same."""
        if self._access_log is not None:
            record = RequestRecord("-", "-", problem.status, 0.0, peer, request_id)
            record.error, record.detail = problem.failure.error, problem.detail
            self._access_log(record)

    def _application(self) -> web.Application:
        """The gateway's own paths."""
        config, board, recorder = self._config, self.fleet.board, self._recorder
        app = web.Application(client_max_size=config.limits.events_body)
        templating.setup(app)
        middleware.install(app, tokens=self._tokens, cors=self._cors, open_paths=middleware.open_paths(config.auth))
        others = self._colleagues
        follows = others if others and not others.leads else None
        listed = follows or self.desk.books
        page = status_page.StatusPage(
            snapshot=board.snapshot,
            recent_events=recorder.recent_events,
            past=lambda names: recorder.past(int(time.time()), names),
            incidents=listed.shown,
            windows=listed.planned,
            untold=follows.untold if follows else int,
            store_problem=lambda: recorder.problem,
            started_at=utc_now(),
            now=utc_now,
        )
        worker, workers = (others.number, others.workers) if others else (1, 1)
        ids = EventIds(lambda: time.time_ns() // 1000, worker=worker, workers=workers)
        takes_root = any(route.prefix == "/" for service in config.services.values() for route in service.routes)
        app.add_routes(vx11.routes(snapshot=board.snapshot, port=self._port, now=utc_now))
        app.add_routes(event_routes.routes(config, self.hub, ids, recorder.store_event, self._tasks))
        names = config.names
        app.add_routes(history.routes(names, recorder.history, utc_now))
        callers = {name: own for name, own in names.items() if self.fleet.heartbeats.expects(own)}
        app.add_routes(heartbeat.routes(callers, self.fleet.beat))
        app.add_routes(incidents.routes(self.desk.books, names, utc_now))
        app.add_routes(status_page.routes(page, root=not takes_root))
        app.add_routes(liveness.routes(phase=lambda: self._phase, store_problem=lambda: recorder.problem))
        app.add_routes(
            metrics.routes(
                snapshot=board.snapshot,
                store_problem=lambda: recorder.problem,
                dropped=lambda: recorder.dropped,
                traffic=self.proxy.traffic.totals,
                load=lambda: metrics.Load(self._admission.open, self.proxy.traffic.in_flight, len(asyncio.all_tasks())),
                alert_stats=lambda: metrics.AlertStats(*self.desk.numbers()),
                worker=others.number if others else None,
            )
        )
        return app

    def _inform_proxy(self, result: ProbeResult) -> None:
        if result.health is not Health.UNKNOWN:
            self.proxy.note_probe(result.upstream, is_well=result.health.is_healthy)

    def _page(self) -> str:
        return f"{self._config.alerts.page or self.running.url}/status"

    def _port(self) -> int:
        bound = self._listeners.bound
        return bound[0][1] if bound else self._config.server.port

    def _proxy_needs(self) -> ProxyDependencies:
        return ProxyDependencies(
            tokens=self._tokens,
            cors=self._cors,
            breaker=self.fleet.breakers.of,
            health_path=self.fleet.board.health_path,
            why_off=self.fleet.why_off,
            why_open=self.fleet.why_open,
            render=problems.render,
            log=self._access_log,
            name=self._name,
        )
