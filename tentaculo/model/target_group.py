"""What people see of a group of targets between which a route learns to choose."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import msgspec


class Chosen(Enum):
    """Why a request went to its target."""

    LEARNED = "learned"
    """By what came of earlier requests, with a probability."""
    NAMED = "named"
    """The caller named it."""
    FIRST = "first"
    """The request could not be changed: the first target that is healthy."""


@dataclass(slots=True)
class TargetRecord:
    """What one request of a group was given, and what came of it."""

    target: str
    chosen: Chosen
    probability: float | None = None
    """With which it was chosen; None where it was not by chance."""
    reward: float | None = None
    """From 0 to 1; None where nothing was learned."""


class TargetView(msgspec.Struct, frozen=True):
    """One target as it is now, in this process."""

    name: str
    calls: int
    """Requests that went to it since the start."""
    learned: int
    """Those of them that taught something."""
    rewards: float
    """The sum of their rewards."""
    recent: int
    """How many of its latest rewards `mean` is of."""
    mean: float | None
    """Mean of its latest rewards; None before the first."""
    margin: float | None
    """Half of the interval of 95 % around `mean`; None where fewer than two are known."""
    probability: float
    """With which the next request goes to it; 0 while its circuit breaker is open."""


class GroupView(msgspec.Struct, frozen=True):
    """The group of one route."""

    service: str
    route: str
    targets: tuple[TargetView, ...]
