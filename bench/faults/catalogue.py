"""What is broken, for how long, and what is counted."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

RATE = 50.0
"""Requests a second, each on a connection of its own; every fifth is a POST."""
CALM, AFTER = 2.0, 12.0
"""Seconds of traffic before the fault, and after its end: the slowest proxy uses a replica again after eleven."""
LASTS = (12.5, 14.5, 13.5)
"""Seconds of the fault, round by round: proxies work in steps of ten seconds, and no step is to suit one of them."""
PATIENCE = 30.0
"""Seconds after which a caller gives up."""
PROBE_INTERVAL = 2.0
"""Seconds between two probes of each proxy that probes."""
LATE = 1.0
"""Seconds after which an answer comes too late."""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How a replica behaves. The defaults are a healthy one: 200 for everything."""

    failing: float = 0.0
    """Share of the traffic that is answered 500."""
    failing_health: float = 0.0
    """The same for its health path."""
    delay: float = 0.0
    """Seconds more before each answer, its health path's too."""
    hangs: bool = False
    """It accepts connections and reads requests, and never answers; at the end they are cut, as by a restart."""
    closed: bool = False
    """Nobody listens, and its connections are cut."""
    work: float = 0.04
    """Seconds for a request of the traffic: so long that a pause of the machine makes no replica look much slower."""
    slots: int = 0
    """Requests of the traffic that it works on at once, while others wait; 0 for any number."""


WELL = Behaviour()


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to the first replica."""

    name: str
    title: str
    how: str
    broken: Behaviour = field(default_factory=Behaviour)
    kills: bool = False
    """Its process is killed, and started again at the end."""
    flaps: float = 0.0
    """If not 0, it is broken and well in turn for so many seconds."""
    works: bool = False
    """All its traffic is answered well: who takes it out of use is wrong."""
    well: Behaviour = WELL
    """How each replica behaves before and after the fault, and the others meanwhile."""
    overloads: bool = False
    """It serves all that it can, which is less than it is sent: refusing the rest is no mistake, and being late is one."""
    rate: float = RATE
    """Requests a second."""
    lasts: tuple[float, ...] = LASTS
    """Seconds of the fault, round by round."""
    after: float = AFTER
    """Seconds of traffic after its end."""
    is_about_load: bool = False
    """Only latencies and failures count: less for a slower replica is right, and no state has to be shown."""


FAULTS = (
    Fault("crash", "crash", "its process is killed; its port is refused", kills=True),
    Fault("hang", "hang", "it accepts connections and never answers, until it is restarted", Behaviour(hangs=True)),
    Fault(
        "errors",
        "30 % errors",
        "30 % of all requests, health included, get a 500",
        Behaviour(0.3, 0.3),
        # When a proxy notices is a matter of chance: of three rounds the median still was.
        lasts=(12.5, 14.5, 13.5, 13.0, 14.0, 12.0, 13.25, 12.75, 14.25),
    ),
    Fault("slow", "slow", "every answer, health included, takes 2.5 s more", Behaviour(delay=2.5)),
    Fault("flapping", "flapping", "refuses connections for 3 s, works for 3 s, …", Behaviour(closed=True), flaps=3.0),
    Fault(
        "lies-well",
        "wrong health: up",
        "health says 200, all traffic gets a 500",
        Behaviour(failing=1.0),
        # HAProxy takes it out of use and back all the time: when it is back depends on where in that the fault ends.
        lasts=(12.5, 14.5, 13.5, 13.0, 14.0, 12.0),
    ),
    Fault(
        "lies-ill",
        "wrong health: down",
        "health says 500, all traffic is fine",
        Behaviour(failing_health=1.0),
        works=True,
    ),
    Fault(
        "halved",
        "capacity halved",
        "it works on 8 requests at once instead of 16, each for 0.1 s; others wait there",
        Behaviour(work=0.1, slots=8),
        well=Behaviour(work=0.1, slots=16),
        overloads=True,
        rate=100.0,
        lasts=(18.0, 20.0),
        after=6.0,
    ),
)


_BUSY = Behaviour(work=0.04, slots=4)
LOAD_FAULTS = (
    Fault(
        "unequal",
        "unequal replicas",
        "each request takes eight times as long, and no health shows it",
        Behaviour(work=0.04),
        works=True,
        well=Behaviour(work=0.005),
        is_about_load=True,
        rate=100.0,
        lasts=(8.0, 10.0),
        after=3.0,
    ),
    Fault(
        "hang-busy",
        "a hang at high load",
        "it never answers, while the others then serve 150 of at most 200 requests a second",
        replace(_BUSY, hangs=True),
        well=_BUSY,
        rate=150.0,
        is_about_load=True,
        after=3.0,
    ),
)


@dataclass(frozen=True, slots=True)
class Row:
    """A fault of the first of `replicas`."""

    fault: Fault
    replicas: int

    @property
    def name(self) -> str:
        """On the command line and in file names."""
        return self.fault.name if self.replicas > 1 else f"{self.fault.name}-alone"

    @property
    def title(self) -> str:
        """In tables."""
        return (
            f"{self.fault.title}, one of {self.replicas}" if self.replicas > 1 else f"{self.fault.title}, the only one"
        )


ROWS = (
    *(Row(fault, replicas) for replicas in (2, 1) for fault in FAULTS if replicas == 1 or not fault.overloads),
    *(Row(fault, replicas) for fault, replicas in zip(LOAD_FAULTS, (2, 3), strict=True)),
)
BY_NAME = {row.name: row for row in ROWS}
QUICK = ("crash", "hang", "lies-ill", "crash-alone", "halved-alone")
"""The rows of a quick look."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One number of a row; less is better."""

    key: str
    label: str
    digits: int
    slack: float
    """What is no more than this apart, or than a tenth, counts as equal."""

    def compares(self, row: Row) -> bool:
        """Whether less of it is better in this row."""
        if row.fault.is_about_load:
            return self.key in ("failed", "hurt", "p99")
        if self.key == "p99":
            return False
        if row.fault.overloads:
            return self.key in ("recovered", "hurt")
        if self.key in ("detected", "recovered") and (row.fault.works or row.fault.flaps):
            # There is nothing to detect, or too much: what comes of it shows in the other numbers.
            return False
        return not (self.key == "detected" and row.replicas == 1)


FEW = 3
"""Requests more or less that are no difference."""
METRICS = (
    Metric("detected", "out of use after, s", 1, 0.5),
    Metric("shown", "shown after, s", 1, 0.5),
    Metric("recovered", "in use again after, s", 1, 0.5),
    Metric("failed", "failed", 0, FEW),
    Metric("hurt", "failed or late", 0, FEW),
    Metric("p99", "p99, ms", 0, 5),
    Metric("ejected", "healthy one out of use, s", 1, 0.5),
)


def behaviour_from(data: dict[str, Any]) -> Behaviour:
    """As it came over the control port."""
    return Behaviour(**data)
