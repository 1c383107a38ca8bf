"""What a rig saw, as values and as JSON. Moments are seconds from the beginning of the fault."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field


@dataclass(slots=True)
class Request:
    """One request of the load."""

    due: float
    seconds: float
    """From the moment it was due to the whole answer, or to the end of the attempt."""
    status: int
    """0 where there was no whole answer."""


@dataclass(slots=True)
class Trace:
    """One row behind one proxy."""

    rate: float
    """Requests a second."""
    replicas: int
    ended: float
    """When the fault ended."""
    finished: float
    """When the load ended."""
    requests: list[Request] = field(default_factory=list)
    broken: list[float] = field(default_factory=list)
    """When the broken replica was sent, or tried to be sent, a request of the traffic; refused probes are among them."""
    well: list[float] = field(default_factory=list)
    """When the other one was."""
    shown: float | None = None
    """When the proxy first showed that something is wrong; None if never."""
    lag: float = 0.0
    """By how many seconds 99 % of the load came late at most: a busy machine blames no proxy."""
    shows: bool = True
    """Whether it can show anything."""

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Trace:
        """The trace that was written so."""
        data = json.loads(text)
        return cls(**{**data, "requests": [Request(**request) for request in data["requests"]]})
