"""Generations of the configuration: each is built beside the one that is served, and put in place as a whole.

    prepare   mostly in a thread: builds and checks all that the configuration needs, and changes nothing
    swap      in one turn of the event loop: every request from then on is judged and served by the new generation

What is equal in both is kept: connections, requests in flight, circuit breakers, health, learned limits, sessions,
subscribers. [Reload](../../docs/reload.md) says what each change keeps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import structlog
from aiohttp import web

from tentaculo.config.accepted_tokens import AcceptedTokens, token_lines
from tentaculo.config.comparison import Changes, appliable, compare, digest
from tentaculo.config.schema import Config
from tentaculo.config.types import trusted_proxy_matcher
from tentaculo.events.hub import Hub
from tentaculo.gateway.authentication import Authentication
from tentaculo.gateway.health_service import HealthService
from tentaculo.gateway.incident_service import IncidentService
from tentaculo.gateway.leading import Leading
from tentaculo.gateway.loading import beside_the_loop
from tentaculo.gateway.service_clocks import ClockWatch
from tentaculo.gateway.shutdown import CLOSE_WAIT
from tentaculo.gateway.slow_watch import SlowWatch
from tentaculo.gateway.turn_queue import TurnQueue
from tentaculo.gateway.usual_cache import UsualCache
from tentaculo.model.event import RecordOwnEvent
from tentaculo.net.memory import MemoryBudget, memory_limit
from tentaculo.net.stalls import StallWatch
from tentaculo.proxy.handler import Proxy
from tentaculo.security.cors import CorsPolicy
from tentaculo.security.tokens import Tokens
from tentaculo.server.access_control import AccessControl
from tentaculo.server.dispatcher import Dispatcher
from tentaculo.server.gateway_responses import GatewayResponses
from tentaculo.server.listeners import ConnectionLimits, Listeners
from tentaculo.server.native_routes import NativeHandler, NativeRoutes
from tentaculo.server.request_limits import RequestLimits, SharedLimits
from tentaculo.server.route_entries import Route
from tentaculo.server.route_networks import RouteNetworks
from tentaculo.server.route_table import RouteTable
from tentaculo.server.rules import Handler, RequestRules
from tentaculo.store.client import StoreClient
from tentaculo.tasks import TaskGroup

if TYPE_CHECKING:
    from tentaculo.config.rotation import RotationSettings
    from tentaculo.gateway.target_rotation import TargetRotation
    from tentaculo.proxy.state import Chooser, Rewards
    from tentaculo.proxy.target_group import TargetGroup

log = structlog.get_logger(__name__)

MOST_LOGGED = 20
"""Names of each list in one line of the log at most: a thousand take two milliseconds. The event has all."""
Step = Callable[[], None]
RouteRules = tuple[RequestLimits, RouteNetworks]
"""The limits and networks of all routes."""


class StaleGenerationError(Exception):
    """The generation was prepared upon one that is no longer served. Prepare it again."""


@dataclass(frozen=True, slots=True)
class Generation:
    """A configuration, with all that was built for it."""

    number: int
    """1 for that of the start; the same in every worker."""
    config: Config
    """What is served: without the changes that only a restart applies."""
    etag: str
    """Identifies the configuration that was asked for, with its accepted tokens: the same in every process that has it."""
    changes: Changes
    """What it changes of the generation before."""
    tokens: Tokens
    cors: CorsPolicy
    rules: RequestRules
    """How requests are judged, and the handlers of the gateway's own paths."""
    steps: Sequence[Step] = field(repr=False, default=())
    """What puts its parts in place, in this order."""
    endings: list[Step] = field(repr=False, default_factory=list)
    """What ends the parts that it replaces, some microseconds each: emptied once it is served."""
    memory_limit: int | None = None
    """None where it does not change."""
    on_drain: Sequence[Step] = field(repr=False, default=())
    """What ends the streams of its pages."""
    tokens_before: Tokens | None = None
    """Those that were accepted when it began to be prepared."""

    def end_streams(self) -> None:
        """End the streams of its pages."""
        for end in self.on_drain:
            end()


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowingParts:
    """The parts of a gateway that outlive a generation, and follow the next one."""

    application: Callable[[Config, CorsPolicy, list[Step]], web.Application]
    """Makes the application of the gateway's own paths, and adds what ends the streams of its pages."""
    health_service: HealthService
    incident_service: IncidentService
    proxy: Proxy
    leading: Leading
    listeners: Listeners
    stalls: StallWatch
    rotations: Rotations
    slow_watch: SlowWatch
    usual: UsualCache
    clocks: ClockWatch
    hub: Hub
    connections: ConnectionLimits
    memory: MemoryBudget
    workers: int
    """Processes that share the memory budget."""
    responses: GatewayResponses
    authentication: Authentication
    record: RecordOwnEvent
    limits: SharedLimits


class Generations:
    """Prepares generations, and knows the one that is served."""

    def __init__(
        self,
        parts: FollowingParts,
        config: Config,
        hashes: AcceptedTokens,
        tokens: Tokens,
        cors: CorsPolicy,
        number: int = 1,
    ) -> None:
        """`number` is that of the first one, which is not 1 in a worker that replaces one that ended."""
        self._parts = parts
        self._first_number = number
        self._start = config, token_lines(hashes), tokens, cors
        self._current: Generation | None = None
        self._endings = TurnQueue()
        self.dispatcher: Dispatcher | None = None

    def __repr__(self) -> str:
        return f"<Generations: {self._current!r}>"

    @property
    def current(self) -> Generation:
        """The one that is served."""
        assert self._current is not None
        return self._current

    @property
    def config(self) -> Config:
        """The configuration that is served."""
        return self._start[0] if self._current is None else self._current.config

    async def begin(self) -> web.AppRunner:
        """Build that of the start. The runner serves the gateway's own paths, and is to be cleaned up at the end."""
        config, hashes, tokens, cors = self._start
        on_drain: list[Step] = []
        app, proxy = self._parts.application(config, cors, on_drain), self._parts.proxy
        routes = self._routes(config, app, proxy.routes, proxy.health_routes)
        runner = await _running(app)
        self._current = Generation(
            *(self._first_number, config, digest(config, hashes), Changes(added=tuple(config.services)), tokens, cors),
            self._rules(config, tokens, cors, routes, _handler(runner), *self._rules_of_routes(config, None)),
            on_drain=on_drain,
        )
        self._parts.limits.use(self._current.rules.limits)
        return runner

    def use_tokens(self, tokens: Tokens) -> None:
        """Accept these tokens from now on, by the configuration that is served."""
        current = self.current
        current.rules.access.tokens = tokens
        self._current = replace(current, tokens=tokens)
        self._parts.authentication.use(tokens)

    async def prepare(self, config: Config, hashes: AcceptedTokens | None) -> Generation:
        """Build and check all that `config` needs. Changes nothing of what is served; raises what is wrong.

        Without `hashes` the accepted tokens stay.
        """
        current, parts = self.current, self._parts
        accepted = [settings for settings, _, _ in current.tokens.listed]
        wanted = accepted if hashes is None else hashes

        def find_changes() -> tuple[Changes, Config, frozenset[str]]:
            changes, lines = compare(current.config, config), token_lines(wanted)
            if lines != token_lines(accepted):
                changes = changes.with_key("auth.tokens")
            return changes, appliable(current.config, config), lines

        changes, served, lines = await beside_the_loop(find_changes)
        tokens, cors = parts.authentication.accepted(served, wanted), CorsPolicy(served.cors)
        on_drain: list[Step] = []
        is_other_memory = served.limits.memory != current.config.limits.memory

        def build() -> tuple[web.Application, RouteTable, list[Step], list[Step], str, RouteRules]:
            health = parts.health_service.prepare(served, changes)
            proxy = parts.proxy.prepare(served, health.breakers)
            steps: list[Step] = [
                health.use,
                partial(parts.proxy.use, proxy),
                parts.incident_service.prepare(served, changes),
                parts.clocks.prepare(served),
                parts.leading.prepare(served),
                parts.slow_watch.prepare(served),
            ]
            app = parts.application(served, cors, on_drain)
            routes = self._routes(served, app, proxy.routes, proxy.health_routes)
            of_routes = self._rules_of_routes(served, current.rules.limits)
            return app, routes, steps, proxy.endings, digest(config, lines), of_routes

        app, routes, steps, endings, etag, of_routes = await beside_the_loop(build)
        native = NativeHandler(app, _handler(await _running(app)))
        rules = self._rules(served, tokens, cors, routes, native, *of_routes)
        if self.current.number != current.number:
            raise StaleGenerationError
        return Generation(
            *(current.number + 1, served, etag, changes, tokens, cors, rules),
            steps=steps,
            endings=endings,
            memory_limit=memory_limit(served.limits.memory, parts.workers) if is_other_memory else None,
            on_drain=on_drain,
            tokens_before=current.tokens,
        )

    def swap(self, generation: Generation, by: str = "") -> Changes:
        """Serve `generation` from now on, in this turn of the event loop; `by` says who asked for it.

        Requests in flight to services that it removes end by themselves, or with `reload.close_removed` now.

        Raises `StaleGenerationError`, before anything is changed, where it was prepared upon another generation than the
        one that is served.
        """
        before = self.current
        if generation.number != before.number + 1 or not generation.steps:
            raise StaleGenerationError
        newer: Tokens | None = None
        if before.tokens is not generation.tokens_before:
            # The token file has changed since it was read for this generation: what was revoked stays so.
            newer = self._parts.authentication.with_file_of(generation.tokens, before.tokens, generation.config)
        steps: tuple[Step, ...] = (*generation.steps, partial(self._follow, generation), *before.on_drain)
        for step in steps:
            try:
                step()
            except Exception:  # the rest must still be put in place: one part alone would serve another configuration
                log.exception("reload step failed", step=str(step))
        # What was prepared is in place, and would keep the parts of the generation before in memory.
        self._current = replace(generation, steps=(), tokens_before=None)
        if newer is not None:
            self.use_tokens(newer)
        # To free the rest of a thousand services takes some milliseconds: not in this turn too, and not in one.
        self._endings.extend([partial(_drop, before), *generation.endings, partial(_drop, generation)])
        generation.endings.clear()
        changes = generation.changes
        if generation.config.reload.close_removed and changes.removed:
            self._parts.proxy.end_services(changes.removed)
        said = {"generation": generation.number, **changes.as_json(), "kept": len(changes.kept)}
        log.info("configuration reloaded", by=by, **{name: _logged(value) for name, value in said.items()})
        self._parts.record("configuration.reloaded", by=by, etag=generation.etag, **said)
        return changes

    def close(self) -> None:
        """End what was replaced and has not ended yet: nothing is served any more."""
        self._endings.finish()

    def _follow(self, generation: Generation) -> None:
        """Have all that is not built follow `generation`."""
        parts, config, changes = self._parts, generation.config, generation.changes
        limits = config.limits
        parts.responses.use_cors(generation.cors)
        if self.dispatcher is not None:
            self.dispatcher.use(generation.rules)
        parts.limits.use(generation.rules.limits)
        parts.authentication.use(generation.tokens, config)
        parts.proxy.traffic.keep_services(changes.removed, config.services)
        parts.connections.use(limits.connections, limits.connections_per_address)
        parts.hub.use(limit=limits.subscribers, queue=limits.subscriber_queue)
        if generation.memory_limit is not None:
            parts.memory.limit = generation.memory_limit
        parts.usual.use(tuple(config.services))
        parts.listeners.limit_stall(limits.stall)
        parts.stalls.use(limits.stall)
        parts.rotations.follow(parts.proxy.groups)

    def _routes(
        self, config: Config, app: web.Application, proxied: Sequence[Route], health: Mapping[str, Route]
    ) -> RouteTable:
        native = NativeRoutes(app, config.auth, config.names)
        return RouteTable(config, native.find, proxied, health, self._parts.health_service.board.health_path)

    def _rules_of_routes(self, config: Config, earlier: RequestLimits | None) -> RouteRules:
        """What limits the requests of each route. May run in a thread."""
        shared = self._parts.limits
        return RequestLimits(config, shared, earlier), RouteNetworks(config, shared.note_network)

    def _rules(
        self,
        config: Config,
        tokens: Tokens,
        cors: CorsPolicy,
        routes: RouteTable,
        native: Handler,
        limits: RequestLimits,
        networks: RouteNetworks,
    ) -> RequestRules:
        parts = self._parts
        return RequestRules(
            native,
            routes,
            AccessControl(
                tokens, cors, parts.authentication.tickets, parts.authentication.sessions, config.server.hosts
            ),
            trusted_proxy_matcher(config.server.trusted_proxies),
            config.limits.headers,
            limits or None,
            networks or None,
        )


def _drop(_: Generation) -> None:
    """Nothing refers to it any more once this was called."""


def _logged(value: Any) -> Any:
    """A list of names as one line of the log has it."""
    if not isinstance(value, list) or len(value) <= MOST_LOGGED:
        return value
    return [*value[:MOST_LOGGED], f"and {len(value) - MOST_LOGGED} more"]


async def _running(app: web.Application) -> web.AppRunner:
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=CLOSE_WAIT)
    await runner.setup()
    return runner


def _handler(runner: web.AppRunner) -> Handler:
    return cast(web.Server, runner.server).request_handler


class Rotations:
    """Records the groups of targets, once there are any."""

    def __init__(
        self, tasks: TaskGroup, record: RecordOwnEvent, store_client: StoreClient, *, instance: str, worker: int | None
    ) -> None:
        self._tasks = tasks
        self._record = record
        self._store_client = store_client
        self._instance = instance
        self._worker = worker
        self._rotation: TargetRotation | None = None

    def __repr__(self) -> str:
        return f"<Rotations: {self._rotation!r}>"

    def follow(self, groups: Sequence[TargetGroup]) -> None:
        """Record these groups from now on."""
        if self._rotation is not None:
            self._rotation.use(groups)
        elif groups:
            # Only a gateway with groups pays for it.
            from tentaculo.gateway.target_rotation import TargetRotation, read_newest

            self._rotation = TargetRotation(
                groups, self._record, read_newest(self._store_client), instance=self._instance, worker=self._worker
            )
            self._tasks.start(self._rotation.run(), "target rotation")

    def record(self) -> None:
        """Record what is new of them."""
        if self._rotation is not None:
            self._rotation.record()


def learning(settings: RotationSettings) -> tuple[Chooser, Rewards]:
    """What the group of `settings` learns with."""
    from tentaculo.gateway.target_rotation import learning

    return learning(settings)
