"""Histograms of latencies: percentiles, merging and encoding."""

from __future__ import annotations

from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentaculo.model.history import (
    ACCURACY,
    BUCKETS,
    HOUR,
    LONGEST,
    MINUTE,
    SHORTEST,
    Histogram,
    Period,
    Tally,
    Uptime,
    UptimeShare,
    bucket,
    merged,
    uptime_share,
)

SECONDS = st.floats(SHORTEST, LONGEST)
LATENCIES = st.lists(SECONDS, max_size=60)
COUNTS = st.dictionaries(st.integers(0, BUCKETS - 1), st.integers(1, 2**62), max_size=60)


def of(latencies: list[float]) -> Histogram:
    histogram = Histogram()
    for latency in latencies:
        histogram.add(latency)
    return histogram


@given(st.lists(SECONDS, min_size=1, max_size=60), st.floats(0, 1))
def test_every_percentile_is_within_the_stated_error(latencies: list[float], part: float) -> None:
    true = sorted(latencies)[max(0, ceil(round(part * len(latencies), 9)) - 1)]
    (found,) = of(latencies).percentiles(part)
    assert of(latencies).percentile(part) == found
    assert found is not None
    assert abs(found - true) <= true * ACCURACY * (1 + 1e-9)


@given(LATENCIES, LATENCIES, LATENCIES)
def test_merging_is_counting_everything_in_one_in_any_order(a: list[float], b: list[float], c: list[float]) -> None:
    whole = of(a + b + c)
    assert merged([of(a), of(b), of(c)]) == whole
    assert merged([of(a), merged([of(b), of(c)])]) == whole
    assert merged([merged([of(a), of(b)]), of(c)]) == whole
    assert merged([of(c), of(b), of(a)]) == whole
    assert whole.count == len(a + b + c)


@given(LATENCIES)
def test_merging_changes_only_what_is_merged_into(latencies: list[float]) -> None:
    one, other = of(latencies), of(latencies)
    Histogram().merge(one)
    one.merge(other)
    assert other == of(latencies)
    assert one == of(latencies * 2)


@given(COUNTS)
def test_encoding_and_decoding_give_the_same_back(counts: dict[int, int]) -> None:
    histogram = Histogram(counts)
    encoded = histogram.encode()
    assert Histogram.decode(encoded) == histogram
    assert (encoded == b"") is (counts == {})


@given(st.one_of(st.binary(max_size=40), st.binary(max_size=40).map(lambda rest: b"\1" + rest)))
def test_junk_is_refused_and_the_rest_has_one_spelling(junk: bytes) -> None:
    try:
        histogram = Histogram.decode(junk)
    except ValueError:
        return
    assert histogram.encode() == junk


@given(COUNTS.filter(bool), st.data())
def test_a_piece_of_an_encoding_is_never_taken_for_more_than_it_is(counts: dict[int, int], data: st.DataObject) -> None:
    encoded = Histogram(counts).encode()
    cut = encoded[: data.draw(st.integers(1, len(encoded) - 1))]
    try:
        found = Histogram.decode(cut)
    except ValueError:
        return
    assert found.count < sum(counts.values())


@pytest.mark.parametrize(
    "junk",
    [
        b"\0",
        b"\2\1\1",  # another version
        b"\1",  # nothing in it
        b"\1\5",  # a gap without a count
        b"\1\5\x81",  # a number without its end
        b"\1\5\0",  # none of that bucket
        b"\1\5\1\0\1",  # the same bucket twice
        b"\1\xa8\4\1",  # a bucket that is not there: 552
        b"\1\5\x81\0",  # 1, with a leading zero
        b"\1\5" + b"\xff" * 9 + b"\1",  # more than 63 bits
    ],
)
def test_junk_of_each_kind(junk: bytes) -> None:
    with pytest.raises(ValueError, match=r"is (a|half|no)|too long"):
        Histogram.decode(junk)


def test_the_documented_bytes() -> None:
    """The format is in databases: it may be extended by a new version, and never changed."""
    assert Histogram({0: 1, 5: 300, 400: 2}).encode() == bytes((1, 0, 1, 5, 0xAC, 2, 0x8B, 3, 2))
    assert BUCKETS == 552
    assert [bucket(seconds) for seconds in (1e-6, 1e-3, 1.0, 3600.0)] == [0, 173, 346, 551]


def test_what_is_out_of_bounds_counts_as_the_bound() -> None:
    histogram = of([-1.0, 0.0, 1e-9, 1e9])
    low, high = histogram.percentiles(0.1, 0.9)
    assert low == SHORTEST
    assert high == pytest.approx(LONGEST, rel=ACCURACY)
    assert histogram.count == 4


def test_percentiles_by_nearest_rank() -> None:
    histogram = of([0.001] * 90 + [0.1] * 9 + [1.0])
    p50, p90, p95, p99, p100 = histogram.percentiles(0.5, 0.9, 0.95, 0.99, 1.0)
    assert (p50, p95) == (p90, p99)
    assert p50 == pytest.approx(0.001, rel=ACCURACY)
    assert p95 == pytest.approx(0.1, rel=ACCURACY)
    assert p100 == pytest.approx(1.0, rel=ACCURACY)
    assert histogram.percentiles(0.99, 0.5, 0.5) == [p99, p50, p50]
    # 0.07 * 100 is 7.000000000000001.
    assert of([0.001] * 7 + [1.0] * 93).percentiles(0.07) == [p50]


def test_a_merged_percentile_weighs_every_latency_alike() -> None:
    quiet, busy = of([0.010] * 99 + [1.0]), of([0.100] * 10_000)
    (true,) = merged([quiet, busy]).percentiles(0.5)
    assert true == pytest.approx(0.1, rel=ACCURACY)


def test_an_empty_one_has_no_percentiles() -> None:
    assert Histogram().percentiles(0.5, 0.99) == [None, None]
    assert Histogram().percentile(0.5) is None
    assert repr(of([1.0, 2.0])) == "<Histogram of 2>"


def test_availability_is_the_share_of_the_time_that_is_known() -> None:
    timed = Period("madre", MINUTE, 0, Tally(1, 9), uptime=Uptime(45_000, 15_000))
    assert uptime_share([timed]) == UptimeShare(0.75)
    assert uptime_share([timed, Period("madre", HOUR, 0, Tally(9, 1), uptime=Uptime(15_000, 45_000))]).share == 0.5
    unknown = Period("madre", MINUTE, 60, Tally(0, 0), uptime=Uptime())
    assert uptime_share([unknown]) == UptimeShare(None)
    assert uptime_share([unknown, timed]) == UptimeShare(0.75)
    assert uptime_share([]) == UptimeShare(None)


def test_a_period_without_time_counts_by_its_probes() -> None:
    counted = Period("madre", MINUTE, 0, Tally(3, 1))
    assert uptime_share([counted]) == UptimeShare(0.75, by_time=False)
    timed = Period("madre", MINUTE, 60, uptime=Uptime(0, 60_000))
    assert uptime_share([counted, timed]) == UptimeShare(0.375, by_time=False)
    assert uptime_share([Period("madre", MINUTE, 0), timed]) == UptimeShare(0.0), "nothing is not estimated"


def test_periods_with_and_without_time_merge_to_the_time_that_is_known() -> None:
    total = Period("madre", HOUR, 0)
    total.merge(Period("madre", MINUTE, 0, Tally(1, 0)))
    assert total.uptime is None
    total.merge(Period("madre", MINUTE, 60, uptime=Uptime(1, 2)))
    total.merge(Period("madre", MINUTE, 120, uptime=Uptime(3, 4)))
    assert total.uptime == Uptime(4, 6)
