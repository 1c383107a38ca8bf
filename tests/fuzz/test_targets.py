"""A short search in each target, from its seeds, without help; `make conformance` does the long one with atheris."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.seeds import SEEDS
from tests.fuzz.targets import TARGETS


def test_each_target_has_its_seeds() -> None:
    assert TARGETS.keys() == SEEDS.keys()


@pytest.mark.parametrize("name", TARGETS)
def test_the_seeds_hold(name: str) -> None:
    for seed in SEEDS[name]:
        TARGETS[name](seed)


@st.composite
def _changed(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """A seed with something cut out, put in or repeated."""
    data = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(len(data), start + 12)))
        middle = draw(st.one_of(st.just(b""), st.just(data[start:end] * 2), st.binary(max_size=6)))
        data = data[:start] + middle + data[end:]
    return data


@pytest.mark.thorough
@pytest.mark.parametrize("name", TARGETS)
def test_nor_does_anything_near_them_break_it(name: str) -> None:
    @given(st.one_of(_changed(SEEDS[name]), st.binary(max_size=200)))
    @settings(max_examples=150, deadline=None, database=None, derandomize=True)
    def search(data: bytes) -> None:
        TARGETS[name](data)

    search()
