"""The budget of bytes that are held: how they are counted, and how many there may be."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest

from tentaculo.net import memory
from tentaculo.net.memory import (
    DEFAULT_BUDGET,
    MemoryBudget,
    give_back_memory,
    memory_limit,
    resident_memory,
    trim_memory,
    without_collections,
)
from tentaculo.tasks import TaskGroup
from tests.support.waits import eventually


def test_what_each_holder_holds_counts_once() -> None:
    budget, one, two = MemoryBudget(100), object(), object()
    budget.hold(one, 30)
    budget.hold(two, 60)
    assert (budget.held, budget.is_exhausted) == (90, False)
    budget.hold(one, 40)
    assert (budget.held, budget.is_exhausted) == (100, True)
    budget.release(two)
    budget.release(two)
    assert budget.held == 40
    budget.release(one)
    assert budget.held == 0


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({}, DEFAULT_BUDGET),
        ({"memory.max": "max\n"}, DEFAULT_BUDGET),
        ({"memory.max": "536870912\n"}, 268435456),
        ({"memory/memory.limit_in_bytes": "1000000\n"}, 500000),
        ({"memory/memory.limit_in_bytes": "9223372036854771712\n"}, DEFAULT_BUDGET),
    ],
)
def test_the_default_is_half_of_the_containers_limit(tmp_path: Path, files: dict[str, str], limit: int) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert memory_limit(0, 1, tmp_path) == limit
    assert memory_limit(0, 4, tmp_path) == limit // 4


def test_the_configured_limit_wins(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("536870912\n")
    assert memory_limit(1000, 1, tmp_path) == 1000


@pytest.mark.parametrize(("count", "is_frozen"), [(200, True), (20, False)])
def test_many_objects_are_frozen_and_few_are_collected(
    monkeypatch: pytest.MonkeyPatch, count: int, is_frozen: bool
) -> None:
    monkeypatch.setattr(memory, "FREEZE_FROM", 100)
    gc.collect()
    before = gc.get_freeze_count()
    try:
        with without_collections():
            made = [[number] for number in range(count)]
        frozen = gc.get_freeze_count() - before
        assert len(made) == count
        assert (frozen >= count) is is_frozen
        assert gc.isenabled()
    finally:
        gc.unfreeze()


def test_free_memory_is_given_back_at_once() -> None:
    # Not compared with what there was before: free memory of other tests may serve for the pieces.
    pieces = [bytes(16 * 1024) for _ in range(4000)]
    last = pieces.pop()
    most = resident_memory()
    pieces.clear()
    trim_memory()
    assert resident_memory() < most - 40 * 2**20
    assert len(last) == 16 * 1024


async def test_free_memory_goes_back_to_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "TRIM_SECONDS", 0.05)
    before = resident_memory()
    # Too small for mappings of their own, and one at the end that keeps the heap from shrinking.
    pieces = [bytes(16 * 1024) for _ in range(4000)]
    last = pieces.pop()
    tasks = TaskGroup("memory")
    tasks.start(give_back_memory(), "memory")
    try:
        pieces.clear()
        await eventually(lambda: resident_memory() < before + 20 * 2**20)
    finally:
        await tasks.close()
    assert len(last) == 16 * 1024
