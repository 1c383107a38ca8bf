"""What the overview costs, as `python -m bench.pages` measures it."""

from __future__ import annotations

from bench.pages import measure


async def test_the_size_and_the_time_of_a_page_are_measured() -> None:
    plain, compressed, made = await measure(9, rounds=2)
    assert 10_000 < compressed < plain < 100_000
    assert made.count == 2
