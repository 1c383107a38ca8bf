from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tentaculo.health.probe_slots import ProbeSlots


class Starts:
    def __init__(self, slots: ProbeSlots) -> None:
        self.slots = slots
        self.names: list[str] = []

    def ask(self, name: str, *, is_slow: bool = False) -> None:
        self.slots.acquire(lambda: self.names.append(name), is_slow=is_slow)


def test_one_that_waits_gets_the_slot_that_becomes_free() -> None:
    starts = Starts(ProbeSlots(4))
    for name in "abcde":
        starts.ask(name)
    assert starts.names == ["a", "b", "c"]
    starts.slots.release(is_slow=False)
    assert starts.names == ["a", "b", "c", "d"]
    for _ in range(4):
        starts.slots.release(is_slow=False)
    assert repr(starts.slots) == "<ProbeSlots: 3 free, 0 wait; slow: 1 free, 0 wait>"


def test_two_hundred_that_hang_leave_the_others_their_slots() -> None:
    starts = Starts(ProbeSlots(64))
    for number in range(200):
        starts.ask(f"hung{number}", is_slow=True)
    assert len(starts.names) == 16
    for number in range(48):
        starts.ask(f"well{number}")
    assert len(starts.names) == 64, "every one of these has started at once"


def test_what_waits_can_be_dropped() -> None:
    starts = Starts(ProbeSlots(4))
    for name in "abcde":
        starts.ask(name)
    starts.slots.clear()
    starts.slots.release(is_slow=False)
    assert starts.names == ["a", "b", "c"]


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=200), st.integers(4, 12))
def test_never_more_than_the_limit_and_nobody_is_forgotten(steps: list[tuple[bool, bool]], limit: int) -> None:
    slots = ProbeSlots(limit)
    under_way = {True: 0, False: 0}
    asked = {True: 0, False: 0}

    def start(is_slow: bool) -> None:
        under_way[is_slow] += 1

    for is_release, is_slow in steps:
        if is_release and under_way[is_slow]:
            under_way[is_slow] -= 1
            asked[is_slow] -= 1
            slots.release(is_slow=is_slow)
        elif not is_release:
            asked[is_slow] += 1
            slots.acquire(lambda is_slow=is_slow: start(is_slow), is_slow=is_slow)  # type: ignore[misc]
        assert sum(under_way.values()) <= limit
        quarter = max(1, limit // 4)
        assert under_way[True] == min(asked[True], quarter)
        assert under_way[False] == min(asked[False], limit - quarter)
