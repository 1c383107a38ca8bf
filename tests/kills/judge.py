"""What must hold after any number of kills, judged from what producers and listeners saw and from the table itself."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from time import monotonic
from typing import NamedTuple

from sqlalchemy import select

from tentaculo.store.tables import events
from tests.support.runtime_tables import opened

SOURCES = "kills-"
"""What the sources of all producers begin with."""
_SHOWN = 5


class Name(NamedTuple):
    """What a producer calls an event."""

    source: str
    number: int


@dataclass
class Book:
    """What producers and listeners saw."""

    acknowledged: dict[Name, int] = field(default_factory=dict)
    """Id of each event that was answered 200 or 201."""
    received: dict[str, list[int]] = field(default_factory=dict)
    """Ids in the order in which each listener got them."""
    faults: list[str] = field(default_factory=list)
    """What was wrong when it happened."""
    duplicates: int = 0
    """Repeats that were answered with the first id."""
    unacknowledged: int = 0
    """Requests without a response, or with 503."""
    greatest: int = 0
    """The greatest acknowledged id."""
    longest_pause: float = 0.0
    """The longest time between two acknowledged events, in seconds."""
    _noted_at: float | None = None

    def acknowledge(self, name: Name, id_: int, *, floor: int, is_duplicate: bool) -> None:
        """Note a response. `floor` is the greatest id that was known before the event was sent for the first time."""
        now = monotonic()
        self.longest_pause = max(self.longest_pause, now - (self._noted_at or now))
        self._noted_at = now
        if id_ <= floor:
            self.faults.append(f"{name} got {id_}, though {floor} had been given before it was sent")
        if self.acknowledged.setdefault(name, id_) != id_:
            self.faults.append(f"{name} got {id_} after {self.acknowledged[name]}")
        self.duplicates += is_duplicate
        self.greatest = max(self.greatest, id_)

    def receive(self, listener: str, id_: int) -> None:
        """Note an event that a listener got."""
        seen = self.received.setdefault(listener, [])
        if seen and id_ <= seen[-1]:
            self.faults.append(f"{listener} got {id_} after {seen[-1]}")
        seen.append(id_)


def read_log(url: str) -> list[tuple[int, Name]]:
    """Id and name of each event of the producers in the database, by id."""
    query = select(events.c.id, events.c.source, events.c.payload)
    query = query.where(events.c.source.startswith(SOURCES)).order_by(events.c.id)
    with opened(url) as connection:
        return [(id_, Name(source, json.loads(text)["number"])) for id_, source, text in connection.execute(query)]


def times_set_back(url: str) -> int:
    """How often an event of the log was received a minute before its predecessor or more: the clock was set back."""
    with opened(url) as connection:
        times = [row[0] for row in connection.execute(select(events.c.received_at).order_by(events.c.id))]
    return sum((before - after).total_seconds() > 60 for before, after in pairwise(times))


def faults_of(book: Book, log: Sequence[tuple[int, Name]]) -> list[str]:
    """All that is wrong, in words; empty where everything holds."""
    faults = list(book.faults)
    by_name = {name: id_ for id_, name in log}
    faults += _listed("lost, though acknowledged", _differing(book.acknowledged, by_name))
    faults += _listed("stored twice", [name for name, times in Counter(name for _, name in log).items() if times > 1])
    ids = [id_ for id_, _ in log]
    for listener, seen in book.received.items():
        faults += _listed(f"{listener} did not get", sorted(set(ids) - set(seen)))
        faults += _listed(f"{listener} got what is not in the log", sorted(set(seen) - set(ids)))
    return faults


def _differing(acknowledged: Mapping[Name, int], stored: Mapping[Name, int]) -> list[Name]:
    return [name for name, id_ in acknowledged.items() if stored.get(name) != id_]


def _listed(what: str, found: Sequence[object]) -> list[str]:
    if not found:
        return []
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return [f"{what}: {', '.join(map(str, found[:_SHOWN]))}{more}"]
