"""How many events of which type came lately. Pure: the clock is passed in."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable

WINDOW_SECONDS = 300
BUCKET_SECONDS = 5
TYPES = 500
OTHER = "_other"


class Cardinality:
    """Events by type over a window that slides with the clock.

    `clock` gives seconds, monotonic. The window is kept in buckets of `bucket` seconds, so that no event older than
    `window` is ever counted, and one may leave up to `bucket` seconds early. At most `types` types are told apart;
    while that many are in the window, new ones count as `_other`. Memory is bounded by types times buckets.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        window: int = WINDOW_SECONDS,
        bucket: int = BUCKET_SECONDS,
        types: int = TYPES,
    ) -> None:
        self.window = window
        self._clock = clock
        self._bucket = bucket
        self._span = window // bucket
        self._types = types
        self._buckets: deque[tuple[int, Counter[str]]] = deque()
        self._totals: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"<Cardinality: {len(self._totals)} types in {len(self._buckets)} buckets>"

    def count(self, type_: str) -> None:
        """Note one event of `type_`, now."""
        number = self._slide()
        if type_ not in self._totals and len(self._totals) - (OTHER in self._totals) >= self._types:
            type_ = OTHER
        if not self._buckets or self._buckets[-1][0] != number:
            self._buckets.append((number, Counter()))
        self._buckets[-1][1][type_] += 1
        self._totals[type_] += 1

    def counts(self) -> dict[str, int]:
        """Events in the window now, by type, the most frequent first."""
        self._slide()
        return dict(self._totals.most_common())

    def rate_per_min(self, count: int) -> float:
        """`count` events of the window as events per minute."""
        return round(count * 60 / self.window, 3)

    def _slide(self) -> int:
        number = int(self._clock() // self._bucket)
        while self._buckets and self._buckets[0][0] <= number - self._span:
            _, gone = self._buckets.popleft()
            self._totals -= gone  # Counter subtraction also drops the types that reach zero.
        return number
