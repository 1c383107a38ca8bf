from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tentaculo.config.change_layer import ChangeLayer, TimedOverride, read_layer, write_layer
from tentaculo.gateway.layer_keeper import STEP, KeptFile, LayerConflictError, NotKeptError, OverrideTimer
from tests.support.waits import eventually

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
FIRST, SECOND = ChangeLayer(1, changes={"services": {"a": None}}), ChangeLayer(2)
THIRD = ChangeLayer(3, changes={"services": {"c": None}})


class Elapsed:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def override(seconds: float, *, since: datetime = NOW) -> TimedOverride:
    return TimedOverride(True, since, since + timedelta(seconds=seconds))


def layer(**overrides: TimedOverride) -> ChangeLayer:
    return ChangeLayer(1, overrides=overrides)


class Ends:
    """Collects the ends of overrides."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.came = asyncio.Event()

    def __call__(self, names: frozenset[str]) -> None:
        self.names += sorted(names)
        self.came.set()


def test_a_change_is_written_and_put_back(tmp_path: Path) -> None:
    file = tmp_path / "state" / "changes.json"
    kept = KeptFile(file, ChangeLayer())
    kept.write(FIRST, NOW)
    assert read_layer(file) == FIRST
    kept.put_back()
    assert read_layer(file) == ChangeLayer()
    kept.write(FIRST, NOW)
    assert read_layer(file) == ChangeLayer(), "a thread that was late writes nothing"


def test_what_another_gateway_has_written_since_is_not_put_back(tmp_path: Path) -> None:
    kept = KeptFile(tmp_path / "changes.json", ChangeLayer())
    kept.write(FIRST, NOW)
    write_layer(tmp_path / "changes.json", SECOND)
    kept.put_back()
    assert read_layer(tmp_path / "changes.json") == SECOND


@pytest.mark.parametrize("text", ["{", '{"revision": 9}'])
def test_a_file_that_somebody_has_edited_is_not_overwritten(tmp_path: Path, text: str) -> None:
    file = tmp_path / "changes.json"
    write_layer(file, FIRST)
    file.write_text(text)
    with pytest.raises(LayerConflictError) as caught:
        KeptFile(file, FIRST).write(THIRD, NOW)
    assert caught.value.is_foreign
    assert file.read_text() == text


def test_only_a_file_that_cannot_be_read_gives_way_to_taking_everything_back(tmp_path: Path) -> None:
    file = tmp_path / "changes.json"
    file.write_text("{")
    KeptFile(file, FIRST).write(SECOND, NOW)
    assert read_layer(file) == SECOND
    file.write_text("{")
    with pytest.raises(LayerConflictError):
        KeptFile(file, layer(a=override(60))).write(layer(), NOW)
    assert file.read_text() == "{", "the end of an override is no reason to replace what somebody edits"
    write_layer(file, ChangeLayer(9, changes={"services": {"b": None}}))
    with pytest.raises(LayerConflictError):
        KeptFile(file, FIRST).write(SECOND, NOW)


def test_a_folder_that_cannot_be_written_keeps_nothing(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    with pytest.raises(NotKeptError, match="cannot be written"):
        KeptFile(tmp_path / "state" / "changes.json", ChangeLayer()).write(FIRST, NOW)


MINUTE = timedelta(minutes=1)


@pytest.mark.parametrize(
    ("known", "found"),
    [
        ({}, {"a": override(60, since=NOW - MINUTE)}),
        ({"a": override(60)}, {"a": override(60).moved(MINUTE)}),
        ({"a": override(60)}, {"a": override(60), "b": override(5, since=NOW - MINUTE)}),
    ],
    ids=["its end was not written", "the clock was set", "another one has ended"],
)
def test_what_the_gateways_do_by_themselves_is_no_edit(
    tmp_path: Path, known: dict[str, TimedOverride], found: dict[str, TimedOverride]
) -> None:
    """A disk that was full at the end of an override kept all changes away, until somebody reloaded."""
    file = tmp_path / "changes.json"
    write_layer(file, layer(**found))
    KeptFile(file, layer(**known)).write(SECOND, NOW)
    assert read_layer(file) == SECOND


@pytest.mark.parametrize(
    ("known", "found"),
    [
        ({}, {"a": override(60)}),
        ({"a": override(60)}, {}),
        ({"a": override(60)}, {"a": override(61)}),
        ({"a": override(60)}, {"a": TimedOverride(False, NOW, NOW + MINUTE)}),
    ],
    ids=["added", "removed", "longer", "another way"],
)
def test_an_override_that_somebody_has_edited_is_not_overwritten(
    tmp_path: Path, known: dict[str, TimedOverride], found: dict[str, TimedOverride]
) -> None:
    file = tmp_path / "changes.json"
    write_layer(file, layer(**found))
    with pytest.raises(LayerConflictError):
        KeptFile(file, layer(**known)).write(SECOND, NOW)
    assert read_layer(file) == layer(**found)


async def test_an_override_ends_once() -> None:
    ends = Ends()
    timer = OverrideTimer(ends)
    timer.set(layer(soon=override(0.05), later=override(60)), NOW)
    await asyncio.wait_for(ends.came.wait(), 5)
    assert ends.names == ["soon"]
    assert repr(timer) == "<OverrideTimer: 1>"
    timer.close()


async def test_a_system_clock_that_was_set_changes_no_length() -> None:
    elapsed, ends = Elapsed(), Ends()
    timer = OverrideTimer(ends, elapsed=elapsed)
    one = override(60)
    timer.set(layer(a=one), NOW)
    elapsed.seconds += 59.99
    # A reload after the clock was set back finds the same override, which keeps its end.
    timer.set(layer(a=one), NOW - timedelta(days=1))
    elapsed.seconds += 0.02
    timer.set(layer(a=one), NOW - timedelta(days=1))
    await asyncio.wait_for(ends.came.wait(), 5)
    assert ends.names == ["a"]
    timer.close()


@pytest.mark.parametrize("hours", [2.0, -2.0])
async def test_overrides_are_moved_with_a_system_clock_that_is_set(hours: float) -> None:
    elapsed, ends, steps = Elapsed(), Ends(), list[tuple[list[str], timedelta]]()
    step, now = timedelta(hours=hours), NOW

    def note(overrides: Mapping[str, TimedOverride], by: timedelta) -> None:
        steps.append((sorted(overrides), by))

    timer = OverrideTimer(ends, on_step=note, now=lambda: now, elapsed=elapsed)
    one = override(60)
    timer.set(layer(a=one), now)
    elapsed.seconds += 10
    now += timedelta(seconds=10) + step
    # A change follows before the timer has looked, of an override by the new clock.
    two = override(60, since=now)
    timer.set(layer(a=one, b=two), now)
    assert steps == [(["a"], step)]
    timer.set(layer(a=one.moved(step), b=two), now)
    elapsed.seconds += 49.9
    now += timedelta(seconds=49.9) - step
    await eventually(lambda: len(steps) > 1)
    assert steps[1:] == [(["a", "b"], -step)], "the timer notices it by itself"
    assert ends.names == []
    elapsed.seconds += 0.2
    await asyncio.wait_for(ends.came.wait(), 5)
    assert ends.names == ["a"]
    timer.close()


async def test_a_clock_that_is_adjusted_by_a_little_moves_nothing() -> None:
    elapsed, steps = Elapsed(), list[timedelta]()
    timer = OverrideTimer(Ends(), on_step=lambda _, by: steps.append(by), elapsed=elapsed)
    timer.set(layer(a=override(60)), NOW)
    timer.set(layer(a=override(60)), NOW + timedelta(seconds=STEP - 0.1))
    timer.close()
    # While none is in force the clock may be set as it likes.
    timer.set(layer(), NOW + timedelta(days=3))
    timer.set(layer(b=override(60, since=NOW + timedelta(days=6))), NOW + timedelta(days=6))
    assert steps == []
    timer.close()


async def test_a_prolonged_override_has_a_new_end() -> None:
    elapsed, ends = Elapsed(), Ends()
    timer = OverrideTimer(ends, elapsed=elapsed)
    timer.set(layer(a=override(1)), NOW)
    timer.set(layer(a=override(60)), NOW)
    elapsed.seconds += 2
    timer.set(layer(a=override(60), b=override(0.01)), NOW)
    elapsed.seconds += 1
    await asyncio.wait_for(ends.came.wait(), 5)
    assert ends.names == ["b"]
    timer.close()
