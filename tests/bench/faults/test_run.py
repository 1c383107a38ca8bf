"""Going through the rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.faults import run
from bench.faults.options import parse
from bench.faults.trace import Trace

OPTIONS = parse(["--rows", "crash", "--peers", "ours,nginx", "--rounds", "2"])


class Rigs:
    """In the place of the real ones: tells how late the load came, rig after rig, or why one failed."""

    def __init__(self, *told: float | str) -> None:
        self.told = list(told)

    async def __call__(self, row: str, peer: str, lasts: float, after: float) -> tuple[str, str]:
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
    return found


async def test_each_proxy_in_each_round(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = await results(monkeypatch, tmp_path, 0.0, 0.1, 0.0, 0.2)
    assert {peer: len(samples) for peer, samples in found.samples["crash"].items()} == {"ours": 2, "nginx": 2}
    assert found.errors == {}
    assert found.numbers("crash")["ours"]["asked"].count == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["crash-nginx.json", "crash-ours.json"]


async def test_where_the_machine_was_busy_it_is_measured_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = await results(monkeypatch, tmp_path, 0.6, 0.0, 0.9, 0.9, 0.9, 0.0, "nginx is not installed")
    assert {peer: len(samples) for peer, samples in found.samples["crash"].items()} == {"ours": 2}
    assert found.errors == {"crash nginx": "nginx is not installed"}
