"""A small soak, so that `make soak` is known to work; and how a soak judges memory."""

from __future__ import annotations

import asyncio
import sys
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.soak.report import MIB, Sample, Soak, page, plot, slope
from tests.support.gateway_process import ROOT, clean_environment

REQUESTS = 5_000


@pytest.mark.timeout(180)
async def test_a_small_soak_finds_nothing_unexpected(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.soak", "--requests", str(REQUESTS)),
        *("--report", str(tmp_path)),
        cwd=ROOT,
        env=clean_environment(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
    assert f"{REQUESTS:,} exchanges" in said.decode()
    # Its few samples show how caches fill, and no leak.
    assert "second half not judged" in said.decode()
    written = (tmp_path / "soak.md").read_text()
    assert "| unexpected | 0 |" in written
    assert str(tmp_path) not in written
    assert str(ROOT) not in written
    root = ElementTree.parse(tmp_path / "soak.svg").getroot()
    assert root.findall("{*}polyline")


def soaked(*mib: float, faults: tuple[str, ...] = (), between: int = 6) -> Soak:
    """A soak with these sizes at even distances, and `between` samples from one to the next on a straight line."""
    sizes = [start + (end - start) * step / between for start, end in pairwise(mib) for step in range(between)] + [
        mib[-1]
    ]
    samples = [Sample(at, at * 1000, round(size * MIB), 20, 5) for at, size in enumerate(sizes)]
    return Soak(1000 * (len(sizes) - 1), samples, {"get": 1}, faults, 4 * MIB, "a machine", "nothing")


@pytest.mark.parametrize(
    ("mib", "flat"),
    [
        ((70, 80, 90, 95, 100, 100, 100, 100, 100, 100, 100), True),
        ((100, 100, 100, 100, 100, 100, 101, 102, 103, 104, 106), False),
        ((100, 100, 100, 100, 100, 103, 97, 103, 97, 103, 97), True),
        ((100, 99, 98, 97, 96, 95, 94, 93, 92, 91, 90), True),
    ],
)
def test_memory_is_flat_if_it_does_not_rise_in_the_second_half(mib: tuple[float, ...], *, flat: bool) -> None:
    found = soaked(*mib)
    assert found.is_judged
    assert found.has_grown is not flat
    assert ("**flat**" in page(found)) is flat
    assert "dashed" in plot(found)


def test_few_samples_are_not_judged() -> None:
    # The memory of a soak of three seconds, in which a fitted line rose by 34 MiB.
    found = soaked(30, 74.8, 74.8, 74.8, between=1)
    assert (found.is_judged, found.has_grown) == (False, False)
    assert "not judged: 2 samples, at least 30 are needed" in page(found)
    assert "dashed" not in plot(found)


def test_a_slope_is_that_of_the_best_line() -> None:
    assert slope([(0, 1), (1, 3), (2, 5)]) == 2
    assert slope([(0, 0), (1, 3), (2, 0), (3, 3)]) == pytest.approx(0.6)
    assert slope([(5, 1), (5, 2)]) == slope([]) == 0


def test_the_report_lists_unexpected_results() -> None:
    found = soaked(1, 2, faults=("get: 500 in place of 200",))
    assert "- get: 500 in place of 200" in page(found)
    assert found.rss_at(0) == MIB
    assert found.rss_at(1) == 2 * MIB
    ElementTree.fromstring(plot(found))
