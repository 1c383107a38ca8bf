"""The composition root: builds the parts of a gateway, joins them, and closes them in order.

request = connection → dispatcher → native handler, or → proxy
health  = scheduler → prober → board → store
event   = ingest or WebSocket → store and hub → subscribers
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, Container, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from types import TracebackType
from typing import Self, cast

from aiohttp import web

from tentaculo import __version__
from tentaculo.config.accepted_tokens import AcceptedTokens
from tentaculo.config.comparison import Changes
from tentaculo.config.environment import database_url
from tentaculo.config.schema import Config
from tentaculo.events.hub import Hub
from tentaculo.events.pipeline import Cardinality
from tentaculo.events.tail import EventTail
from tentaculo.gateway.admin_routes import AdminParts, follow_changes
from tentaculo.gateway.application import Parts, application
from tentaculo.gateway.authentication import Authentication
from tentaculo.gateway.coordination import Coordination
from tentaculo.gateway.generation import FollowingParts, Generation, Generations, Rotations, Step, learning
from tentaculo.gateway.health_service import HealthService
from tentaculo.gateway.incident_service import IncidentService
from tentaculo.gateway.leading import Leadership, Leading, OwnRow
from tentaculo.gateway.limit_notices import shared_limits
from tentaculo.gateway.machine_role import MachineRole, instance_name
from tentaculo.gateway.own_events import OwnEvents
from tentaculo.gateway.reloading import Reloads, recorded
from tentaculo.gateway.service_clocks import ClockWatch
from tentaculo.gateway.shutdown import Shutdown
from tentaculo.gateway.slow_watch import SlowWatch
from tentaculo.gateway.usual_cache import UsualCache
from tentaculo.health.steady_clock import Correct, SteadyClock
from tentaculo.net.memory import MemoryBudget, give_back_memory, memory_limit
from tentaculo.net.tcp import keep_alive
from tentaculo.net.turns import TurnScheduler
from tentaculo.proxy.handler import Proxy
from tentaculo.proxy.state import ProxyDependencies
from tentaculo.security.cors import CorsPolicy
from tentaculo.server.connection import ClientConnection, ClientSocket
from tentaculo.server.dispatcher import Dispatcher
from tentaculo.server.fast_path import TryServe
from tentaculo.server.gateway_responses import GatewayResponses
from tentaculo.server.listeners import ConnectionLimits, Listeners, ListeningAddresses, Phase
from tentaculo.store.client import StoreClient
from tentaculo.tasks import TaskGroup
from tentaculo.telemetry.history import TakeTallies
from tentaculo.telemetry.request_log import RequestLog, RequestRecord
from tentaculo.web.metrics_sources import Load


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
        keeps_sockets: bool = False,
        wait_to_lead: Callable[[], Awaitable[None]] | None = None,
        prepare_store: Callable[[], Awaitable[None]] | None = None,
        reloads: Reloads | None = None,
    ) -> None:
        """`hashes` are the accepted tokens'. `access_log` takes the record of each finished request.

        `stop_now`, when set, ends the wait for requests in flight. `probes` starts probing and alerting. `fast_path`
        serves requests without a task where that is possible; only their cost depends on it. `coordination` joins this
        gateway to the other workers on its port, if there are any. `sockets` are each worker's listening sockets,
        `keeps_sockets` whether a service manager has them, so that they stay open. `wait_to_lead` is awaited before anything
        that only one process may do: probing, alerting, recording. `prepare_store` is awaited before the database is used;
        requests are served meanwhile. `reloads` reload the configuration.
        """
        self._prepare_store, self._sockets = prepare_store, sockets
        self._is_shared = keeps_sockets or coordination is not None
        self._leadership = Leadership(wait_to_lead)
        self._uses_fast_path, self._coordination = fast_path, coordination
        self._name = coordination.name if coordination else f"tentaculo-link-{secrets.token_hex(4)}"
        self._phase = Phase.STARTING
        self._stack = AsyncExitStack()
        self._tasks = TaskGroup("gateway")
        self._listeners = Listeners()
        self.memory = MemoryBudget(memory_limit(config.limits.memory, config.server.workers if coordination else 1))
        self._turns = TurnScheduler(self.memory, config.limits.stall)
        self._admission = ConnectionLimits(config.limits.connections, config.limits.connections_per_address)
        cors = CorsPolicy(config.cors)
        self._requests = RequestLog(access_log)
        self._responses = GatewayResponses(self._name, cors)
        self._store_client = StoreClient(
            database_url(config),
            event_wait=config.events.wait,
            max_events=config.events.queue,
            survives_power_cut=config.database.durability == "power",
        )
        clock = self._clock = SteadyClock()
        self.health_service = HealthService(config, self._store_client, clock)
        self._usual = UsualCache(self._store_client.usual, tuple(config.services))
        self._slow_watch = SlowWatch(config, self.health_service, self._store_client, self._usual.usual, clock.now)
        self._cardinality = Cardinality(time.monotonic)
        self.hub = Hub(limit=config.limits.subscribers, queue=config.limits.subscriber_queue)
        ring_others = coordination.report_events if coordination else None
        self._tail = EventTail(self.hub, self._store_client, ring_others)
        self._shutdown = Shutdown(
            lambda: self.config.server,
            self._listeners,
            self._admission,
            self.hub,
            stop_now=stop_now or asyncio.Event(),
            on_stop=self._note_stopping,
            end_pages=lambda: self.generations.current.end_streams(),
            shared=[sock for group in sockets for sock in group],
            keeps_sockets=keeps_sockets,
        )
        instance = instance_name(config)
        self._own_events = OwnEvents(
            self._store_client.store_events,
            self._tail,
            is_available=lambda: self._store_client.shown_problem is None,
            now=clock.now,
            instance=instance,
            worker=coordination.number if coordination else None,
            store_fleet=self._store_client.store_fleet_events,
        )
        self._reloads = recorded(reloads, self._own_events.record)
        authentication = self.authentication = Authentication(
            config,
            hashes,
            self._store_client,
            coordination,
            self._own_events.record,
            lambda tokens: self.generations.use_tokens(tokens),
        )
        self.tickets = self.authentication.tickets
        self._limits = shared_limits(coordination, self._own_events.record)
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
                lead=self._lead,
                offsets=self.clocks.offsets,
            )
        clock.on_step += [self.health_service.correct, self.incident_service.correct, self._correct]
        needs = ProxyDependencies(
            responses=self._responses,
            requests=self._requests,
            why_off=self.health_service.why_off,
            why_open=self.health_service.why_open,
            name=self._name,
            turns=self._turns,
            learning=learning,
        )
        self.proxy = Proxy(config, self.health_service.breakers, needs)
        self._rotations = Rotations(
            self._tasks,
            self._own_events.record,
            self._store_client,
            instance=instance,
            worker=coordination.number if coordination else None,
        )
        self.health_service.on_date.append(self.clocks.note_date)
        self.health_service.on_endpoint.append(self.proxy.outliers.note_probe)
        self._leading = Leading(
            config,
            self._store_client,
            self.health_service,
            self.incident_service,
            slow_watch=self._slow_watch,
            now=clock.now,
            record=self._own_events.record,
            probes=probes,
        )
        parts = FollowingParts(
            application=self._application,
            health_service=self.health_service,
            incident_service=self.incident_service,
            proxy=self.proxy,
            rotations=self._rotations,
            listeners=self._listeners,
            stalls=self._turns.stalls,
            leading=self._leading,
            slow_watch=self._slow_watch,
            usual=self._usual,
            clocks=self.clocks,
            hub=self.hub,
            connections=self._admission,
            memory=self.memory,
            workers=config.server.workers if coordination else 1,
            responses=self._responses,
            authentication=authentication,
            record=self._own_events.record,
            limits=self._limits,
        )
        number = self._reloads.last.generation
        self.generations = Generations(parts, config, hashes, authentication.tokens, cors, number)

    def __repr__(self) -> str:
        return f"<Gateway {self._phase.value}, {len(self.config.services)} services>"

    @property
    def config(self) -> Config:
        """The configuration that is served."""
        return self.generations.config

    @property
    def running(self) -> ListeningAddresses:
        """Where it listens."""
        return ListeningAddresses(tuple(self._listeners.bound))

    def listening_sockets(self) -> list[socket.socket]:
        """Its listening sockets as descriptors of their own, for a successor. The caller closes them."""
        return [socket.socket(fileno=os.dup(sock.fileno())) for sock in self._listeners.sockets]

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
        await self._shutdown.drain()
        await self._stack.aclose()

    async def _start(self) -> None:
        """Open each part after the parts that it uses; `__aexit__` closes them in the opposite order."""
        self._stack.push_async_callback(self._store_client.close)
        self._stack.push_async_callback(self._own_events.close)
        self._stack.push_async_callback(self.authentication.watch.close)
        self._stack.push_async_callback(self._tasks.close)
        self._tasks.start(give_back_memory(), "memory")
        self._tasks.start(self._clock.run(), "clock")
        runner = await self.generations.begin()
        self.authentication.start(self._tasks)
        self._stack.push_async_callback(runner.cleanup)
        self._stack.callback(self.generations.close)
        server = cast(web.Server, runner.server)
        dispatcher = self.generations.dispatcher = Dispatcher(
            self.generations.current.rules,
            self.proxy,
            responses=self._responses,
            requests=self._requests,
            memory=self.memory,
        )
        server.request_handler = dispatcher.handle
        self._shutdown.serves(server, dispatcher, self.proxy)
        serve = dispatcher.try_serve if self._uses_fast_path else None
        self._stack.push_async_callback(self.proxy.close)
        await self._listeners.open(
            lambda: self._connection(server, serve),
            self.config.server.addresses,
            self._sockets[self._coordination.number - 1 if self._coordination else 0] if self._sockets else (),
            is_shared=self._is_shared,
        )
        self._stack.push_async_callback(self._listeners.close)
        for sock in self._listeners.sockets:
            keep_alive(sock)
        self._listeners.limit_stall(self.config.limits.stall)
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
        self._stack.callback(self._rotations.record)
        self._rotations.follow(self.proxy.groups)
        drain: TakeTallies = self.proxy.traffic.drain
        if self._coordination is not None:
            drain = await self._stack.enter_async_context(
                self._coordination.sharing(self.health_service, self.incident_service.incident_repository, drain)
            )
        if self._coordination is None or self._coordination.is_leader:
            await self._stack.enter_async_context(self.health_service.recording(drain))
            self._stack.push_async_callback(self._leadership.release)
            context = self._lead() if self._role is None else self._role.competing()
            await self._leadership.take(context, self.health_service, self._tasks)
            if (layers := self._reloads.layers) is not None:
                follow = follow_changes(layers, self._store_client, self._own_events.record, self._clock.now)
                self._tasks.start(follow, "changes of the configuration")
        self._phase = Phase.READY
        self._own_events.record("configuration.loaded", services=sorted(self.config.services))
        self._own_events.record("started", version=__version__, address=self.running.url)

    async def prepare(self, config: Config, hashes: AcceptedTokens | None) -> Generation:
        """As `Generations.prepare`; `hashes` are the accepted tokens'. Of several workers all prepare, and then all swap."""
        return await self.generations.prepare(config, hashes)

    def swap(self, generation: Generation, by: str = "") -> Changes:
        """As `Generations.swap`."""
        return self.generations.swap(generation, by)

    def _lead(self) -> AbstractAsyncContextManager[None]:
        return self._leading.leading(OwnRow(self.running.url, self._port(), self._clock.started_at))

    async def retire(self, kept: Container[tuple[str, int]], until: asyncio.Event) -> None:
        """As `Shutdown.retire`. The end of the context closes what is left."""
        await self.release_lead()
        await self._shutdown.retire(kept, until)

    async def release_lead(self) -> None:
        """Probe, alert and record the fleet's history no more: a successor does. A second call does nothing."""
        await self._leadership.release()
        self.health_service.set_in_charge(False)

    def _note_stopping(self) -> None:
        self._phase = Phase.DRAINING
        self._own_events.record("stopping", in_flight=self.proxy.traffic.in_flight)
        if self._role is not None:
            # Another machine probes while the requests in flight finish.
            self._tasks.start(self._role.close(), "handover")
        if self._coordination is not None:
            self._coordination.report_stopping()

    def _adopt(self, worker: int) -> None:
        if self._phase is not Phase.DRAINING and self._sockets:
            self._tasks.start(self._listeners.adopt(worker, self._sockets[worker - 1]), f"adopt {worker}")

    def _connection(self, server: web.Server, serve: TryServe | None) -> ClientSocket:
        connection = ClientConnection(
            server,
            loop=asyncio.get_running_loop(),
            limits=self.config.limits,
            keepalive=self.config.server.keepalive,
            responses=self._responses,
            requests=self._requests,
            admission=self._admission,
            serve=serve,
        )
        return ClientSocket(self._turns, connection)

    def _application(self, config: Config, cors: CorsPolicy, on_drain: list[Step]) -> web.Application:
        coordination, traffic = self._coordination, self.proxy.traffic
        parts = Parts(
            config=config,
            clock=self._clock,
            store_client=self._store_client,
            usual=self._usual,
            health_service=self.health_service,
            incident_service=self.incident_service,
            follows=coordination if coordination and not coordination.is_leader else None,
            hub=self.hub,
            cardinality=self._cardinality,
            tail=self._tail,
            clocks=self.clocks,
            authentication=self.authentication,
            turns=self._turns,
            tasks=self._tasks,
            worker=coordination.number if coordination else None,
            lease=self._role.view if self._role else None,
            record=self._own_events.record,
            on_drain=on_drain,
            reloads=self._reloads,
            admin=AdminParts(lambda: self.generations.current.etag, self._own_events.record),
            phase=lambda: self._phase,
            port=self._port,
            page=self._page,
            load=lambda: Load(self._admission.open, traffic.in_flight, len(asyncio.all_tasks())),
            traffic=traffic.totals,
            concurrency=self.proxy.concurrency,
            groups=lambda: [group.view() for group in self.proxy.groups],
            phases=traffic.phases,
            recent_phases=traffic.recent_phases,
            hedges=self.proxy.hedges,
            limited=lambda: self._limits.refused,
        )
        return application(parts, cors)

    def _correct(self, moment: Correct) -> None:
        self._tasks.start(self.incident_service.incident_repository.store_moved(), "moved windows")

    def _page(self) -> str:
        return f"{self.config.alerts.page or self.running.url}/status"

    def _port(self) -> int:
        return self._listeners.bound[0][1] if self._listeners.bound else self.config.server.port
