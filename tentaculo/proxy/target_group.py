"""The targets of a route, the choice among them, and what came of it. Loaded only where a route has a group."""

from __future__ import annotations

import random
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from math import sqrt
from typing import Any, Final

from tentaculo.config.limits import LimitSettings
from tentaculo.config.routes import RouteSettings
from tentaculo.config.services import BreakerSettings, ServiceSettings
from tentaculo.model.failure import Failure, Problem
from tentaculo.model.target_group import Chosen, GroupView, TargetRecord, TargetView
from tentaculo.proxy.json_value import pointer_steps, value_at
from tentaculo.proxy.route import CompiledRoute
from tentaculo.proxy.state import Learning
from tentaculo.upstream.load_balancer import LoadBalancer

RECENT: Final = 200
"""Latest rewards of a target of which people see the mean."""
TARGET_HEADER: Final = b"x-tentaculo-target"
"""Names a target, for callers that want a certain one. It is not forwarded."""
UNNAMED: Final = ("", "auto")
"""Texts in a body that name no target."""
_MOST: Final = 1e300
"""What a number of a response counts for at most. A whole number of Python may be too large for a float."""
_IN_A_ROW: Final = 3
"""Failures in a row that veto a target."""
_TIMES: Final = 2.0
"""A first veto lasts for so many times `breaker.open_for`, and each one after it for so many times as long as the last. So
the breaker of the endpoint, which opened meanwhile, lets another target be its trial."""
_LONGEST: Final = 600.0
"""Seconds of the longest veto."""


class Veto:
    """Keeps the requests of a group away from a target that breaks, while the others share its endpoints and their breakers.

    A model that hangs would else open the circuit breaker of the service for all of its models, and be the trial again and
    again. `clock` is monotonic, in seconds; it is not read while the target succeeds.
    """

    __slots__ = ("_clock", "_failures", "_limit", "_seconds", "_shortest", "_until")

    def __init__(self, rules: BreakerSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # It comes before the breaker, which counts the failures of all targets.
        self._limit = max(1, min(_IN_A_ROW, rules.failures - 1))
        self._shortest = self._seconds = rules.open_for * _TIMES
        self._failures = 0
        self._until = 0.0

    def __repr__(self) -> str:
        return f"<Veto after {self._failures} of {self._limit} failures>"

    def has_rules_of(self, other: Veto) -> bool:
        """Whether both come after as many failures, and last as long."""
        return (self._limit, self._shortest) == (other._limit, other._shortest)

    @property
    def holds(self) -> bool:
        """Whether the target is to get nothing now."""
        return self._failures >= self._limit and self._clock() < self._until

    def begin(self) -> None:
        """A request goes to the target. After a veto it is a trial, and the next one waits for its success, or longer."""
        if self._failures >= self._limit and (moment := self._clock()) >= self._until:
            self._seconds = min(self._seconds * _TIMES, _LONGEST)
            self._until = moment + self._seconds

    def note(self, *, is_failure: bool) -> None:
        """Take the outcome of a request into account, also of one whose caller named the target."""
        if not is_failure:
            self._failures, self._seconds = 0, self._shortest
            return
        self._failures += 1
        # Those that began before the veto, and fail later, make it no longer.
        if self._failures == self._limit:
            self._until = self._clock() + self._seconds


class Target:
    """One target, and the counts of its requests in this process."""

    __slots__ = ("calls", "learned", "name", "plan", "recent", "rewards", "text", "veto")

    def __init__(self, name: str, text: str, plan: CompiledRoute, veto: Veto | None = None) -> None:
        """`veto` is for a target that shares its service with another one."""
        self.name = name
        self.veto = veto
        self.text = text
        """What is set in the body."""
        self.plan = plan
        """The route by which its requests are forwarded."""
        self.calls = self.learned = 0
        self.rewards = 0.0
        self.recent: deque[float] = deque(maxlen=RECENT)

    def __repr__(self) -> str:
        return f"<Target {self.name}: {self.calls} calls>"

    @property
    def is_open(self) -> bool:
        """Whether the circuit breaker of an endpoint lets a request through, and the service is on."""
        balancer = self.plan.balancer
        return balancer is not None and any(endpoint.breaker.would_admit() for endpoint in balancer.endpoints)

    @property
    def is_healthy(self) -> bool:
        """Whether an endpoint neither fails its probes nor most of its requests."""
        balancer = self.plan.balancer
        return balancer is not None and any(endpoint.outliers.refresh() for endpoint in balancer.endpoints)

    @property
    def has_veto(self) -> bool:
        """Whether it broke lately, while other targets have the same endpoints."""
        return self.veto is not None and self.veto.holds


class TargetGroup:
    """The group of one route."""

    def __init__(
        self,
        route: CompiledRoute,
        services: Mapping[str, ServiceSettings],
        balancers: Mapping[str, LoadBalancer],
        learning: Learning,
        chance: random.Random | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`route` is the one that has the group; `balancers` has those of the services that are on; `clock` is monotonic."""
        settings = route.route.rotation
        assert settings is not None
        assert route.key is not None
        # Not the route itself, which refers to its group: reference counts alone free what a reload replaces.
        self.key = route.key
        self.route = route.identity
        """Identifies the route."""
        self.settings = settings
        shared = Counter(target.service or route.service.name for target in settings.targets)
        self.set_at = pointer_steps(settings.set) if settings.set is not None else None
        self._success_at = pointer_steps(settings.success_at) if settings.success_at is not None else None
        self._latency_at = pointer_steps(settings.latency_at) if settings.latency_at is not None else None
        self._cost_at = pointer_steps(settings.cost_at) if settings.cost_at is not None else None
        self.targets = tuple(
            Target(
                target.name,
                target.text,
                _plan(route.route, service, target.path, route.limits, balancers),
                Veto(service.breaker, clock) if shared[service.name] > 1 else None,
            )
            for target in settings.targets
            for service in (services[target.service or route.service.name],)
        )
        self._chance = chance or random.Random()  # noqa: S311 - nothing secret
        self.chooser, self._worth = learning(settings)

    def __repr__(self) -> str:
        return f"<TargetGroup {self.key.route}: {self.chooser!r}>"

    @property
    def reads_responses(self) -> bool:
        """Whether anything is read in the bodies of responses."""
        return any((self._success_at, self._latency_at, self._cost_at))

    @property
    def is_on(self) -> bool:
        """Whether the service of a target is on."""
        return any(target.plan.balancer is not None for target in self.targets)

    def allowed(self) -> list[int]:
        """The targets that may be chosen: those whose circuit breaker is closed, of them the healthy ones without a veto.

        The first one that is on where there is none: its circuit breaker says why nothing is forwarded. Where all have a
        veto the breaker alone decides, as without targets.
        """
        admitted = [number for number, target in enumerate(self.targets) if target.is_open]
        healthy = [number for number in admitted if self.targets[number].is_healthy] or admitted
        if not healthy:
            return [next((number for number, one in enumerate(self.targets) if one.plan.balancer is not None), 0)]
        return [number for number in healthy if not self.targets[number].has_veto] or healthy

    def choose(self) -> tuple[Target, TargetRecord]:
        """A target by what was learned."""
        allowed = self.allowed()
        number = self.chooser.choose(allowed, self._chance.random, self._chance.gauss)
        probability = round(self.chooser.probability(number, allowed), 4)
        return self._count(number, Chosen.LEARNED, probability)

    def first(self) -> tuple[Target, TargetRecord]:
        """The first one that is healthy, for a request that cannot be changed."""
        return self._count(self.allowed()[0], Chosen.FIRST)

    def named(self, name: str, *, is_header: bool) -> tuple[Target, TargetRecord] | None:
        """The target that the caller names, by its name in a header or by its text in the body; None for no target."""
        for number, target in enumerate(self.targets):
            if name == (target.name if is_header else target.text):
                return self._count(number, Chosen.NAMED)
        return None

    def _count(self, number: int, chosen: Chosen, probability: float | None = None) -> tuple[Target, TargetRecord]:
        target = self.targets[number]
        target.calls += 1
        if target.veto is not None:
            target.veto.begin()
        return target, TargetRecord(target.name, chosen, probability)

    def learn(self, target: Target, record: TargetRecord, *, status: int | None, seconds: float, document: Any) -> None:
        """Take into account what came of a request. The rewards are of those alone that were chosen by chance.

        `status` is None where no whole response came. `document` is the response in JSON, None where it was not read.
        `seconds` is how long it took.
        """
        if target.veto is not None:
            target.veto.note(is_failure=status is None or status in target.plan.breaker_statuses)
        if record.chosen is not Chosen.LEARNED:
            return
        is_success = status is not None and status < 400
        cost: float | None = None
        if document is not None and is_success:
            word = value_at(document, self._success_at) if self._success_at is not None else None
            is_success = word is not False and not (isinstance(word, str) and word in self.settings.failed_words)
            stated = _number(value_at(document, self._latency_at)) if self._latency_at is not None else None
            seconds = seconds if stated is None else stated / 1000
            cost = _number(value_at(document, self._cost_at)) if self._cost_at is not None else None
        reward = self._worth.reward(is_success=is_success, seconds=seconds, cost=cost)
        record.reward = round(reward, 4)
        target.learned += 1
        target.rewards += reward
        target.recent.append(reward)
        self.chooser.learn(self.targets.index(target), reward)

    def continue_from(self, before: TargetGroup) -> None:
        """Continue with what `before`, the group of the same route, has counted and learned of targets of these names."""
        known = {target.name: number for number, target in enumerate(before.targets)}
        learned = before.chooser.state()
        for number, target in enumerate(self.targets):
            if (place := known.get(target.name)) is not None:
                old = before.targets[place]
                target.calls, target.learned, target.rewards = old.calls, old.learned, old.rewards
                target.recent = old.recent
                if target.veto is not None and old.veto is not None and target.veto.has_rules_of(old.veto):
                    target.veto = old.veto
                self.chooser.restore(number, *learned[place])

    def view(self) -> GroupView:
        """The group as it is now."""
        allowed = self.allowed()
        views = []
        for number, target in enumerate(self.targets):
            mean, margin = _mean(target.recent)
            is_allowed = number in allowed and target.is_open
            probability = self.chooser.probability(number, allowed) if is_allowed else 0.0
            views.append(
                TargetView(
                    *(target.name, target.calls, target.learned, target.rewards, len(target.recent)),
                    *(mean, margin, probability),
                )
            )
        return GroupView(self.key.service, self.key.route, tuple(views))


def unknown_target() -> Problem:
    """The refusal of a request whose header names no target of its route."""
    return Problem(Failure.BAD_REQUEST, "X-Tentaculo-Target names no target of this route.")


def _plan(
    route: RouteSettings,
    service: ServiceSettings,
    path: str | None,
    limits: LimitSettings,
    balancers: Mapping[str, LoadBalancer],
) -> CompiledRoute:
    plan = CompiledRoute(service, route.at_target(path), limits, balancers.get(service.name))
    plan.is_static = False
    return plan


def _number(value: Any) -> float | None:
    """A number of a response, at most `_MOST`; None for anything else, NaN and what is below 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        return None
    return float(min(value, _MOST))


def _mean(values: Sequence[float]) -> tuple[float | None, float | None]:
    """The mean, and half of its interval of 95 % by the normal distribution."""
    count = len(values)
    if not count:
        return None, None
    mean = sum(values) / count
    if count < 2:
        return mean, None
    variance = sum((value - mean) ** 2 for value in values) / (count - 1)
    return mean, 1.96 * sqrt(variance / count)
