"""Says who is beyond a limit of requests: once in a while for each, and never more often than a log can take."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

import structlog

from tentaculo.gateway.coordination import Coordination
from tentaculo.model.event import RecordOwnEvent
from tentaculo.server.request_limits import LimitedRequest, SharedLimits

log = structlog.get_logger(__name__)

AGAIN_AFTER = 600.0
"""Seconds for which nothing more is said of one caller or address at one limit."""
MOST_AT_ONCE = 10
"""Of all of them together in `SPAN` seconds; the others are counted, and the next one says how many they were."""
SPAN = 60.0
MOST_NOTED = 1024
"""Callers and addresses that are remembered for that."""


class LimitNotices:
    """Logs requests beyond a limit, and records an event of each.

    An event names a caller, which is the name of a token, and no address: pages show events to everybody where they are
    open. The log has the address.
    """

    def __init__(self, record: RecordOwnEvent, clock: Callable[[], float] = time.monotonic) -> None:
        self._record = record
        self._clock = clock
        self._noted: OrderedDict[tuple[object, ...], float] = OrderedDict()
        self._began = 0.0
        self._said = 0
        self._left_out = 0

    def __repr__(self) -> str:
        return f"<LimitNotices: {len(self._noted)} noted>"

    def note(self, limited: LimitedRequest) -> None:
        """Say that a request was refused, unless it was said lately."""
        now, (route, refusal, caller, network) = self._clock(), limited
        who = ("",) if refusal.per == "route" else ("address", network) if caller is None else ("caller", caller)
        key = (route, refusal.names, *who)
        if now < self._noted.get(key, float("-inf")) + AGAIN_AFTER:
            return
        if now >= self._began + SPAN:
            self._began, self._said = now, 0
        if self._said >= MOST_AT_ONCE:
            self._left_out += 1
            return
        self._said += 1
        self._noted[key] = now
        self._noted.move_to_end(key)
        if len(self._noted) > MOST_NOTED:
            self._noted.popitem(last=False)
        others, self._left_out = self._left_out, 0
        limit = " and ".join(refusal.names)
        log.warning(
            "requests limited",
            service=route.service or None,
            route=route.route or None,
            limit=limit,
            caller=caller,
            client=network,
            others=others,
        )
        self._record(
            "requests.limited",
            severity="warning",
            service=route.service or None,
            route=route.route or None,
            limit=limit,
            kind=refusal.kind,
            caller=caller,
            others=others,
        )


def shared_limits(coordination: Coordination | None, record: RecordOwnEvent) -> SharedLimits:
    """What the limits of a gateway's requests have in common: they are divided among the workers that serve."""
    limits = SharedLimits(coordination.workers if coordination else 1)
    limits.on_refused = LimitNotices(record).note
    if coordination is not None:
        coordination.share_limits(limits.divide)
    return limits
