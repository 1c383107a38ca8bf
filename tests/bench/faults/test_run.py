"""Going through the rows."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from bench.faults import __main__, catalogue, run
from bench.faults.options import parse
from bench.faults.trace import Request, Trace

OPTIONS = parse(["--rows", "crash", "--peers", "ours,nginx", "--rounds", "2"])


class Rigs:
    """In the place of the real ones: tells how late the load came, rig after rig, or why one failed."""

    def __init__(self, *told: float | str) -> None:
        self.told = list(told)
        self.phases: list[float] = []

    async def __call__(self, row: str, peer: str, lasts: float, after: float, phase: float) -> tuple[str, str]:
        self.phases.append(phase)
        told = self.told.pop(0)
        if isinstance(told, str):
            return "", told
        return Trace(100.0, 2, lasts, lasts + after, lag=told).to_json(), ""


async def results(monkeypatch: pytest.MonkeyPatch, folder: Path, *told: float | str) -> run.Results:
    rigs = Rigs(*told)
    monkeypatch.setattr(run, "_rig", rigs)
    monkeypatch.setattr(run, "_is_isolated", lambda: False)
    monkeypatch.setattr(run, "KEPT", folder)
    found = await run.run(OPTIONS)
    assert rigs.told == []
    assert set(rigs.phases) == {0.25, 0.75}
    return found


async def test_each_proxy_in_each_round(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = await results(monkeypatch, tmp_path, 0.0, 0.01, 0.04, 0.02)
    assert {peer: len(samples) for peer, samples in found.samples["crash"].items()} == {"ours": 2, "nginx": 2}
    assert (found.errors, found.lag, found.repeated) == ({}, 0.04, 0)
    assert found.numbers("crash")["ours"]["asked"].count == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["crash-nginx.json", "crash-ours.json"]


async def test_where_the_machine_was_busy_it_is_measured_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = await results(monkeypatch, tmp_path, 0.06, 0.0, 0.9, 0.9, 0.9, 0.0, "nginx is not installed")
    assert {peer: len(samples) for peer, samples in found.samples["crash"].items()} == {"ours": 2}
    assert found.errors == {"crash nginx": "nginx is not installed"}
    assert found.repeated == 4


async def test_as_many_at_a_time_as_there_is_room_for_in_their_order() -> None:
    capacity, taken = run.Capacity(100.0), list[float]()

    async def take(rate: float) -> None:
        await capacity.take(rate)
        taken.append(rate)

    async with asyncio.TaskGroup() as tasks:
        for rate in (50.0, 40.0, 300.0):
            tasks.create_task(take(rate))
        while len(taken) < 2:
            await asyncio.sleep(0)
        await capacity.give_back(50.0)
        assert taken == [50.0, 40.0], "the third needs all of it"
        await capacity.give_back(40.0)
    assert taken == [50.0, 40.0, 300.0]


@pytest.mark.parametrize(
    ("argv", "told", "file"),
    [
        ([], 0.01, "docs/faults.md"),
        ([], 0.06, "build/faults/trial.md"),
        (["--rounds", "1"], 0.01, "build/faults/trial.md"),
    ],
)
def test_only_a_whole_run_whose_load_came_on_time_is_published(
    argv: list[str], told: float, file: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def rig(peer: str, row: str, lasts: float, after: float, phase: float) -> tuple[str, str]:
        rate, replicas = catalogue.BY_NAME[row].fault.rate, catalogue.BY_NAME[row].replicas
        late = told if peer == "nginx" else 0.0
        return Trace(rate, replicas, lasts, lasts + after, [Request(1.0, 0.01, 200)], lag=late).to_json(), ""

    monkeypatch.setattr(run, "_rig", rig)
    monkeypatch.setattr(run, "_is_isolated", lambda: True)
    for module in (run, __main__):
        monkeypatch.setattr(module, "KEPT", tmp_path / "build" / "faults")
    monkeypatch.setattr(__main__, "ROOT", tmp_path)
    (tmp_path / "docs").mkdir()
    monkeypatch.setattr(sys, "argv", ["bench.faults", *argv])
    assert __main__.main() == (1 if told > run.LAG else 0)
    assert (tmp_path / file).is_file()
    assert (tmp_path / "docs" / "faults.md").is_file() is (file == "docs/faults.md")
