"""A rate limit, and the state of many callers in bounded memory. Pure: the time is passed in.

The algorithm is GCRA (the generic cell rate algorithm), which lets through exactly what a bucket of `burst` tokens does
that fills at the rate. The state of a caller is one integer, the time at which its bucket is full again. All arithmetic
is that of integers, so that nothing drifts: time is counted in units of 1 / `requests` of a nanosecond, in which the time
of one request is a whole number.
"""

from __future__ import annotations

from typing import NamedTuple

SECOND = 1_000_000_000
"""Nanoseconds."""


class Verdict(NamedTuple):
    """What a limit says of one request."""

    state: int
    """The caller's state afterwards. Where the request is refused it is the same as before."""
    remaining: int
    """Requests that may follow at once."""
    seconds: int
    """Whole seconds until one more request may come, where none is left; else until `burst` may come again."""
    is_refused: bool


class RateLimit:
    """`requests` in a time of `seconds`, of which up to `burst` may come at once.

    With `parts` it is this process's part of a limit that several share: each has the same part of the rate and of the
    burst, which is rounded down, and one request at least.
    """

    __slots__ = ("_capacity", "_second", "_step", "burst", "requests", "window")

    def __init__(self, requests: int, seconds: int, burst: int, *, parts: int = 1) -> None:
        self.requests = requests
        self.burst = max(1, burst // parts)
        self._step = seconds * SECOND * parts
        self._capacity = self.burst * self._step
        self._second = SECOND * requests
        self.window = -(-self._capacity // self._second)
        """Whole seconds in which `burst` requests are regained."""

    def __repr__(self) -> str:
        return f"<RateLimit: {self.burst} in {self.window} s>"

    def judge(self, state: int, now: int) -> Verdict:
        """Whether a request may come `now`, in nanoseconds of a clock that is never set. `state` is 0 for a new caller."""
        moment = now * self.requests
        used = state - moment
        if used < 0:
            used = 0
        step = self._step
        left = self._capacity - used - step
        if left < 0:
            return Verdict(state, 0, -(left // self._second), True)
        remaining = left // step
        until = used + step if remaining else step - left
        return Verdict(moment + used + step, remaining, -(-until // self._second), False)

    def left(self, state: int, now: int) -> tuple[int, int]:
        """`remaining` and `seconds` of a verdict, where no request comes `now`."""
        free = self._capacity - max(0, state - now * self.requests)
        remaining = free // self._step
        until = self._capacity - free if remaining else self._step - free
        return remaining, -(-until // self._second)


WAYS = 8
"""Callers that share a set of `StateTable`."""


class StateTable:
    """The states of up to `most` callers.

    Callers are spread over sets of `WAYS` by a hash whose key is this process's secret, so that nobody can choose whose
    set it is in. A new caller in a full set takes the place of the one that has used the least. So a client that makes up
    millions of addresses loses the states of these, and cannot have the state of one that has used up its requests
    forgotten, unless most of its set have used up theirs.
    """

    __slots__ = ("_mask", "_sets", "_states", "most")

    def __init__(self, most: int) -> None:
        """`most` is rounded down to a power of two, and is `WAYS` at least."""
        sets = 1 << max(0, (most // WAYS).bit_length() - 1)
        self.most = sets * WAYS
        self._mask = sets - 1
        self._states: dict[str, int] = {}
        self._sets: dict[int, list[str]] = {}

    def __repr__(self) -> str:
        return f"<StateTable: {len(self._states)} of {self.most}>"

    def __len__(self) -> int:
        return len(self._states)

    def get(self, key: str) -> int:
        """The state of a caller, 0 where it has none."""
        return self._states.get(key, 0)

    def put(self, key: str, state: int) -> None:
        """Note the state of a caller."""
        states = self._states
        if key not in states:
            members = self._sets.setdefault(hash(key) & self._mask, [])
            if len(members) < WAYS:
                members.append(key)
            else:
                least = min(members, key=states.__getitem__)
                del states[least]
                members[members.index(least)] = key
        states[key] = state
