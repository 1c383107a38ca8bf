"""The composition root: builds the parts of a gateway, joins them, and closes them in order.

request = connection → dispatcher → native handler, or → proxy
health  = scheduler → prober → board → store
event   = ingest or WebSocket → store and hub → subscribers
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Self, cast

from aiohttp import web

from tentaculo import __version__
from tentaculo.config.accepted_tokens import AcceptedTokens
from tentaculo.config.environment import database_url
from tentaculo.config.schema import Config
from tentaculo.config.types import trusted_proxy_matcher
from tentaculo.events.hub import Hub
from tentaculo.events.tail import EventTail
from tentaculo.gateway.application import Parts, application
from tentaculo.gateway.authentication import Authentication
from tentaculo.gateway.clock_watch import ClockWatch
from tentaculo.gateway.coordination import Coordination
from tentaculo.gateway.health_service import HealthService
from tentaculo.gateway.incident_service import IncidentService
from tentaculo.gateway.leading import OwnRow, leading
from tentaculo.gateway.machine_role import MachineRole, instance_name
from tentaculo.gateway.own_events import OwnEvents
from tentaculo.gateway.slow_watch import SlowWatch
from tentaculo.gateway.usual_cache import UsualCache
from tentaculo.health.steady_clock import Correct, SteadyClock
from tentaculo.net.memory import MemoryBudget, give_back_memory, memory_limit
from tentaculo.net.tcp import keep_alive, limit_stall
from tentaculo.net.turns import TurnScheduler
from tentaculo.proxy.handler import Proxy
from tentaculo.proxy.state import ProxyDependencies
from tentaculo.security.cors import CorsPolicy
from tentaculo.server.connection import ClientConnection, ClientSocket
from tentaculo.server.dispatcher import Dispatcher
from tentaculo.server.fast_path import TryServe
from tentaculo.server.gateway_responses import GatewayResponses
from tentaculo.server.listeners import ConnectionLimits, Listeners, ListeningAddresses, Phase
from tentaculo.server.native_routes import NativeRoutes, open_paths
from tentaculo.server.route_table import RouteTable
from tentaculo.store.client import StoreClient
from tentaculo.tasks import TaskGroup
from tentaculo.telemetry.history import TakeTallies
from tentaculo.telemetry.request_log import RequestLog, RequestRecord
from tentaculo.web.monitoring import Load

if TYPE_CHECKING:
    from tentaculo.config.rotation import RotationSettings
    from tentaculo.proxy.state import Chooser, Rewards
    from tentaculo.proxy.target_group import TargetGroup

_QUIET = 0.1
"""Seconds that a gateway that stops gives its open connections to send a request that is on its way."""
_CLOSE_WAIT = 0.5
"""Seconds that handlers get to end by themselves once the grace is over, and again once they are cancelled."""


class Gateway:
    """One gateway. It is an asynchronous context manager, and serves requests while its context is open."""

    def __init__(
        self,
        config: Config,
        hashes: AcceptedTokens,
        *,
        access_log: Callable[[RequestRecord], None] | None = None,
        stop_now: asyncio.Event | None = None,
        probes: bool = True,
        fast_path: bool = True,
        coordination: Coordination | None = None,
        sockets: Sequence[Sequence[socket.socket]] = (),
        prepare_store: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """`hashes` are the accepted tokens'. `access_log` takes the record of each finished request.

        `stop_now`, when set, ends the wait for requests in flight. `probes` starts probing and alerting. `fast_path`
        serves requests without a task where that is possible; only their cost depends on it. `coordination` joins this
        gateway to the other workers on its port, if there are any. `sockets` are each worker's listening sockets.
        `prepare_store` is awaited before the database is used; requests are served meanwhile.
        """
        self._prepare_store = prepare_store
        self._sockets = sockets
        self._server: web.Server | None = None
        self._config = config
        self._stop_now = stop_now or asyncio.Event()
        self._probes = probes
        self._uses_fast_path = fast_path
        self._coordination = coordination
        self._name = coordination.name if coordination else f"tentaculo-link-{secrets.token_hex(4)}"
        self._phase = Phase.STARTING
        self._stack = AsyncExitStack()
        self._tasks = TaskGroup("gateway")
        self._on_drain: list[Callable[[], None]] = []
        self._listeners = Listeners()
        self.memory = MemoryBudget(memory_limit(config.limits.memory, config.server.workers if coordination else 1))
        self._turns = TurnScheduler(self.memory)
        self._admission = ConnectionLimits(config.limits.connections, config.limits.connections_per_address)
        self._cors = CorsPolicy(config.cors)
        self._requests = RequestLog(access_log)
        self._responses = GatewayResponses(self._name, self._cors)
        self._dispatcher: Dispatcher | None = None
        self._store_client = StoreClient(
            database_url(config),
            event_wait=config.events.wait,
            max_events=config.events.queue,
            survives_power_cut=config.database.durability == "power",
        )
        clock = self._clock = SteadyClock()
        self._started_at = clock.now()
        self.health_service = HealthService(config, self._store_client, clock)
        self._usual = UsualCache(self._store_client.usual, tuple(config.services))
        self._slow_watch = SlowWatch(config, self.health_service, self._store_client, self._usual.usual, clock.now)
        self.hub = Hub(limit=config.limits.subscribers, queue=config.limits.subscriber_queue)
        ring_others = coordination.report_events if coordination else lambda: None
        self._tail = EventTail(self.hub, self._store_client, ring_others)
        instance = instance_name(config)
        self._own_events = OwnEvents(
            self._store_client.store_events,
            self._tail,
            is_available=lambda: self._store_client.shown_problem is None,
            now=clock.now,
            instance=instance,
            worker=coordination.number if coordination else None,
            store_fleet=self._store_client.store_fleet_events,
            epoch=lambda: self._store_client.fence.epoch if self._store_client.fence else None,
        )
        self.authentication = Authentication(
            config, hashes, self._cors, self._store_client, coordination, self._own_events.record
        )
        self.tickets = self.authentication.tickets
        self.health_service.on_transition.append(self._own_events.note_transition)
        self.health_service.breakers.on_change.append(self._own_events.note_breaker)
        self.clocks = ClockWatch(config, clock, self._own_events.record, coordination)
        self.incident_service = IncidentService(
            config,
            self.health_service,
            self._store_client,
            clock,
            page=self._page,
            record=self._own_events.record,
            may_alert=lambda: self._role is None or self._role.keeper.may_alert(),
        )
        self._role: MachineRole | None = None
        if (coordination is None or coordination.is_leader) and self._store_client.may_be_shared:
            self._role = MachineRole(
                self._store_client,
                self.health_service,
                self.incident_service,
                self._own_events,
                instance=instance,
                lead=self._leading,
            )
        clock.on_step += [self.health_service.correct, self.incident_service.correct, self._correct]
        self.proxy = Proxy(config, self.health_service.breakers, self._proxy_needs())
        self.health_service.on_probe.append(self.clocks.note_probe)
        self.health_service.on_endpoint.append(self.proxy.note_health)

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
        """Open each part after the parts that it uses; `__aexit__` closes them in the opposite order."""
        self._stack.push_async_callback(self._store_client.close)
        self._stack.push_async_callback(self._own_events.close)
        self._stack.push_async_callback(self.authentication.watch.close)
        self._stack.push_async_callback(self._tasks.close)
        self._tasks.start(give_back_memory(), "memory")
        self._tasks.start(self._clock.run(), "clock")
        self.authentication.start(self._tasks)
        runner = web.AppRunner(
            self._application(), handler_cancellation=True, access_log=None, shutdown_timeout=_CLOSE_WAIT
        )
        self._stack.push_async_callback(runner.cleanup)
        await runner.setup()
        server = self._server = cast(web.Server, runner.server)
        dispatcher = self._dispatcher = Dispatcher(
            server.request_handler,
            RouteTable(
                self._config,
                NativeRoutes(runner.app, open_paths(self._config.auth, self._config.services), self._config.names).find,
                self.proxy.routes,
                self.proxy.health_routes,
                self.health_service.board.health_path,
            ),
            self.proxy,
            access=self.authentication.access,
            responses=self._responses,
            requests=self._requests,
            is_trusted=trusted_proxy_matcher(self._config.server.trusted_proxies),
            max_head=self._config.limits.headers,
            memory=self.memory,
        )
        server.request_handler = dispatcher.handle
        serve = dispatcher.try_serve if self._uses_fast_path else None
        self._stack.push_async_callback(self.proxy.close)
        await self._listeners.open(
            lambda: self._connection(server, serve),
            self._config.server.addresses,
            self._sockets[self._coordination.number - 1] if self._coordination and self._sockets else (),
        )
        self._stack.push_async_callback(self._listeners.close)
        for sock in self._listeners.sockets:
            keep_alive(sock)
            limit_stall(sock, self._config.limits.stall)
        if self._coordination is not None:
            self._coordination.share_listeners(adopt=self._adopt, release=self._listeners.release)
            self._coordination.share_events(self._tail.ring)
        if self._prepare_store is not None:
            await self._prepare_store()
        self._store_client.launch()
        self._tasks.start(self._tail.run(), "event tail")
        on_fleet = self._role.look if self._role else lambda: None
        self._tasks.start(self._store_client.notify(self._tail.ring, on_fleet), "event notifications")
        self._tasks.start(self._own_events.run(), "own events")
        if self.proxy.groups:
            self._start_rotation(self.proxy.groups)
        drain: TakeTallies = self.proxy.traffic.drain
        if self._coordination is not None:
            drain = await self._stack.enter_async_context(
                self._coordination.sharing(self.health_service, self.incident_service.incident_repository, drain)
            )
        if self._coordination is None or self._coordination.is_leader:
            await self._stack.enter_async_context(self.health_service.recording(drain))
            if self._role is None:
                await self._stack.enter_async_context(self._leading())
            else:
                self._stack.push_async_callback(self._role.close)
                await self._role.start()
        self._phase = Phase.READY
        self._own_events.record("configuration.loaded", services=sorted(self._config.services))
        self._own_events.record("started", version=__version__, address=self.running.url)

    def _start_rotation(self, groups: Sequence[TargetGroup]) -> None:
        # Only a gateway with groups pays for it.
        from tentaculo.gateway.target_rotation import TargetRotation, read_newest

        rotation = TargetRotation(
            groups,
            self._own_events.record,
            read_newest(self._store_client),
            instance=instance_name(self._config),
            worker=self._coordination.number if self._coordination else None,
        )
        self._tasks.start(rotation.run(), "target rotation")
        self._stack.callback(rotation.record)

    def _leading(self) -> AbstractAsyncContextManager[None]:
        return leading(
            self._config,
            self._store_client,
            self.health_service,
            self.incident_service,
            own_row=OwnRow(self.running.url, self._port(), self._started_at),
            slow_watch=self._slow_watch,
            now=self._clock.now,
            record=self._own_events.record,
            probes=self._probes,
        )

    async def _drain(self) -> None:
        """Accept no new connection, close event streams and tunnels, and wait for the requests in flight."""
        self._phase = Phase.DRAINING
        self._own_events.record("stopping", in_flight=self.proxy.traffic.in_flight)
        if self._role is not None:
            # Another machine probes while the requests in flight finish.
            self._tasks.start(self._role.close(), "handover")
        if self._coordination is not None:
            self._coordination.report_stopping()
        await self._listeners.stop()
        for sock in (sock for group in self._sockets for sock in group):
            sock.close()
        if self._dispatcher is not None:
            self._dispatcher.stop_accepting()
        self.proxy.stop_accepting()
        for end_streams in self._on_drain:
            end_streams()
        await self.hub.close()
        waits = TaskGroup("drain")
        waiting = [waits.start(self._finish_requests(), "idle"), waits.start(self._stop_now.wait(), "stop_now")]
        await asyncio.wait(waiting, timeout=self._config.server.grace, return_when=asyncio.FIRST_COMPLETED)
        self.proxy.end_exchanges()
        await asyncio.wait(waiting[:1], timeout=_CLOSE_WAIT)
        await waits.close()

    def _adopt(self, worker: int) -> None:
        if self._phase is not Phase.DRAINING and self._sockets:
            self._tasks.start(self._listeners.adopt(worker, self._sockets[worker - 1]), f"adopt {worker}")

    async def _finish_requests(self) -> None:
        """Until no request is in flight and no client has sent one for `_QUIET` seconds; then close the connections."""
        traffic, dispatcher, loop = self.proxy.traffic, self._dispatcher, asyncio.get_running_loop()
        last = loop.time()
        while traffic.in_flight or (self._admission.open and loop.time() - last < _QUIET):
            if traffic.in_flight:
                await traffic.idle()
                last = loop.time()
            if dispatcher is not None and dispatcher.in_flight:
                last = loop.time()
            await asyncio.sleep(_QUIET / 10)
        for connection in self._server.connections if self._server is not None else ():
            connection.close()

    def _connection(self, server: web.Server, serve: TryServe | None) -> ClientSocket:
        connection = ClientConnection(
            server,
            loop=asyncio.get_running_loop(),
            limits=self._config.limits,
            keepalive=self._config.server.keepalive,
            responses=self._responses,
            requests=self._requests,
            admission=self._admission,
            serve=serve,
        )
        return ClientSocket(self._turns, connection)

    def _application(self) -> web.Application:
        coordination, traffic = self._coordination, self.proxy.traffic
        parts = Parts(
            config=self._config,
            clock=self._clock,
            store_client=self._store_client,
            usual=self._usual,
            health_service=self.health_service,
            incident_service=self.incident_service,
            follows=coordination if coordination and not coordination.is_leader else None,
            hub=self.hub,
            tail=self._tail,
            clocks=self.clocks,
            authentication=self.authentication,
            turns=self._turns,
            tasks=self._tasks,
            worker=coordination.number if coordination else None,
            lease=self._role.view if self._role else None,
            record=self._own_events.record,
            on_drain=self._on_drain,
            phase=lambda: self._phase,
            started_at=lambda: self._started_at,
            port=self._port,
            page=self._page,
            load=lambda: Load(self._admission.open, traffic.in_flight, len(asyncio.all_tasks())),
            traffic=traffic.totals,
            concurrency=self.proxy.concurrency,
            groups=lambda: [group.view() for group in self.proxy.groups],
            phases=traffic.phases,
            recent_phases=traffic.recent_phases,
            hedges=self.proxy.hedges,
        )
        return application(parts, self._cors)

    def _correct(self, moment: Correct) -> None:
        self._started_at = moment(self._started_at)
        self._tasks.start(self.incident_service.incident_repository.store_moved(), "moved windows")

    def _page(self) -> str:
        return f"{self._config.alerts.page or self.running.url}/status"

    def _port(self) -> int:
        bound = self._listeners.bound
        return bound[0][1] if bound else self._config.server.port

    def _proxy_needs(self) -> ProxyDependencies:
        return ProxyDependencies(
            cors=self._cors,
            responses=self._responses,
            requests=self._requests,
            why_off=self.health_service.why_off,
            why_open=self.health_service.why_open,
            name=self._name,
            is_crowded=self._admission.is_crowded,
            turns=self._turns,
            learning=_learning,
        )


def _learning(settings: RotationSettings) -> tuple[Chooser, Rewards]:
    from tentaculo.gateway.target_rotation import learning

    return learning(settings)
