"""The table `rotation` of a route: a group of targets, one of which each request goes to."""

from __future__ import annotations

from typing import Annotated

from tentaculo.config.section import Check, Doc, Section, at_least, at_most, at_most_long, more_than
from tentaculo.config.types import Line, RoutePath, Seconds, Share

MOST_TARGETS = 16
_MOST_DEEP = 8


def _check_pointer(value: str) -> str:
    """A JSON pointer (RFC 6901) to a member of an object, not to the whole document."""
    steps = value.split("/")
    if steps[0] or len(steps) < 2:
        raise ValueError('must be a JSON pointer such as "/model"')
    if len(steps) > _MOST_DEEP + 1:
        raise ValueError(f"has more than {_MOST_DEEP} steps")
    if "~" in value.replace("~0", "").replace("~1", ""):
        raise ValueError("has a ~ that is not part of ~0 or ~1")
    return value


JsonPointer = Annotated[str, Check(_check_pointer, {"pattern": "^(/[^/]*)+$"})]
TargetName = Annotated[Line, at_most_long(60)]


class TargetSettings(Section, frozen=True):
    """One target of a group."""

    name: Annotated[TargetName, Doc("Name of the target.", example="small", variant="large")]
    value: Annotated[
        Annotated[Line, at_most_long(200)] | None,
        Doc("Text that is set in the body.", default="name", example="provider/small-1"),
    ] = None
    service: Annotated[
        str | None, Doc("Service that the request goes to.", default="that of the route", example="workers")
    ] = None
    path: Annotated[
        RoutePath | None,
        Doc(
            "Replaces the prefix in the forwarded path, in place of to.", default="that of the route", example="/small"
        ),
    ] = None

    @property
    def text(self) -> str:
        """What is set in the body."""
        return self.name if self.value is None else self.value


class RotationSettings(Section, frozen=True):
    """[services.<name>.routes.rotation]: the targets of a route, and what a response of theirs is worth."""

    targets: Annotated[
        tuple[TargetSettings, ...],
        Doc(
            "The targets, from 2 to 16 tables. Requests that cannot be changed go to the first one that is healthy.",
            variant="A second target.",
        ),
    ]
    set: Annotated[
        JsonPointer | None,
        Doc(
            "JSON pointer to the value of the request's body that is set to the value of the target. A request that has"
            ' text there already, other than "" and "auto", keeps it. Required where targets differ in it only.',
            default="the body is not changed",
            example="/model",
        ),
    ] = None
    success_at: Annotated[
        JsonPointer | None,
        Doc(
            "JSON pointer to the word of a response that says whether it succeeded.",
            default="the status decides",
            example="/status",
        ),
    ] = None
    failed_words: Annotated[tuple[str, ...], Doc("Words there that say that it failed. `false` says so too.")] = (
        "partial",
        "error",
        "failed",
    )
    latency_at: Annotated[
        JsonPointer | None,
        Doc(
            "JSON pointer to the milliseconds of a response.",
            default="the time is measured",
            example="/latency_ms",
        ),
    ] = None
    cost_at: Annotated[
        JsonPointer | None, Doc("JSON pointer to the cost of a response.", default="none", example="/usage/cost")
    ] = None
    latency_limit: Annotated[
        Annotated[Seconds, more_than(0)], Doc("Latency that takes away the whole latency_weight.", unit="seconds")
    ] = 10
    latency_weight: Annotated[Share, Doc("Part of the reward that latency can take away, from 0 to 1.")] = 0.2
    cost_limit: Annotated[
        Annotated[float, more_than(0)], Doc("Cost that takes away the whole cost_weight, in the unit of the responses.")
    ] = 1
    cost_weight: Annotated[Share, Doc("Part of the reward that cost can take away, from 0 to 1.")] = 0.0
    floor: Annotated[
        float,
        at_least(0),
        at_most(0.5),
        Doc("Least probability of each healthy target. All together have at most half of the requests by it."),
    ] = 0.01

    def check(self) -> None:
        """Raises ValueError for keys that contradict each other."""
        if not 2 <= len(self.targets) <= MOST_TARGETS:
            raise ValueError(f"needs from 2 to {MOST_TARGETS} targets")
        names = [target.name for target in self.targets]
        if len(set(names)) < len(names):
            raise ValueError("has two targets of the same name")
        ways = {(target.text if self.set else None, target.service, target.path) for target in self.targets}
        if len(ways) < len(names):
            raise ValueError("has two targets that do not differ in service, path, or value with set")
        if self.latency_weight + self.cost_weight > 1:
            raise ValueError("has weights of more than 1 in all")
        if self.cost_weight and self.cost_at is None:
            raise ValueError("has cost_weight without cost_at")
