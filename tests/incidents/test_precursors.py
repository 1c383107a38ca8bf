"""Which windows are compared, and what the reports claim: of chance, of a planted cause and of a consequence."""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest

from tentaculo.config.probes import ProbeSettings
from tentaculo.incidents.precursors import (
    DAY,
    HOUR,
    LEAST_MARGIN,
    MOST_OF_SERVICE,
    MOST_TYPES,
    Opening,
    Span,
    Watched,
    Window,
    WindowCounts,
    chosen_services,
    margin_of,
    moment_of,
    plan_windows,
    with_q,
)
from tentaculo.model.health import Health
from tentaculo.model.incident import Incident
from tentaculo.model.precursor import WINDOW, Precursor, ServicePrecursors

START = datetime(2026, 3, 2, tzinfo=UTC).timestamp()
"""Midnight of a Monday."""
DAYS = 28
ALL = Watched(START, START + DAYS * DAY)
NOON = 12 * HOUR


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def incident(moment: float, service: str = "madre", lasts: float = 300, **changes: Any) -> Incident:
    end = at(moment + lasts)
    known = Incident(
        int(moment * 1000), service, (service,), Health.DOWN, "refused", at(moment), end, end, "it is back"
    )
    return replace(known, **changes)


def plan(*incidents: Incident, watched: Watched = ALL, margin: float = 60, **openings: Opening) -> list[Window]:
    found = {int(name.removeprefix("n")): opening for name, opening in openings.items()}
    return plan_windows("madre", sorted(incidents, key=lambda one: -one.id), found, margin, watched)


def cases(windows: list[Window]) -> list[Window]:
    return [one for one in windows if one.incident is not None]


def starts(windows: list[Window]) -> set[float]:
    return {one.start for one in windows}


def others(windows: list[Window]) -> list[Window]:
    return [one for one in windows if one.incident is None]


def test_an_incident_is_compared_with_the_same_minutes_of_the_days_around_it() -> None:
    moment = START + 10 * DAY + NOON
    windows = plan(incident(moment), n1=Opening(1, at(0)))
    assert cases(windows) == [Window(moment - 600, moment - 60, 12, int(moment * 1000))]
    days = sorted((one.start - windows[0].start) / DAY for one in others(windows))
    # Of a Thursday: the nearest working days.
    assert days == [-10, -9, -8, -7, -6, -3, -2, -1, 1, 4, 5, 6, 7, 8]
    assert all((one.end - one.start, one.stratum) == (WINDOW, 12) for one in windows)


def test_a_weekend_is_compared_with_weekends() -> None:
    moment = START + 12 * DAY + NOON
    windows = plan(incident(moment))
    assert sorted((one.start - windows[0].start) / DAY for one in others(windows)) == [-7, -6, 1, 7, 8, 14]
    assert all(one.stratum == 24 + 12 for one in windows)


def test_a_wider_margin_moves_the_windows_away_from_the_detection() -> None:
    moment = START + 10 * DAY + NOON
    assert cases(plan(incident(moment), margin=330))[0][:2] == (moment - 870, moment - 330)


def test_days_that_are_not_known_are_not_compared() -> None:
    first, last = incident(START + DAY + NOON), incident(START + 25 * DAY + NOON)
    assert len(others(plan(first))) == 11
    assert len(others(plan(last))) == 10
    assert plan(incident(START + 300)) == []
    assert plan(incident(START - DAY)) == []


def test_an_incident_soon_after_another_one_is_the_same_occurrence() -> None:
    moment = START + 10 * DAY + NOON
    first, again = incident(moment), incident(moment + 300 + HOUR)
    assert [one.incident for one in cases(plan(first, again))] == [first.id]
    later = incident(moment + 300 + HOUR + 600)
    assert [one.incident for one in cases(plan(first, later))] == [later.id, first.id]
    # Also where the earlier one is of a parent, whose end leaves the service failing for another reason.
    parent = incident(moment, "database", services=("database", "madre"))
    assert cases(plan(parent, again)) == []
    elsewhere = incident(moment, "database")
    assert [one.incident for one in cases(plan(elsewhere, again))] == [again.id]


def test_a_merged_incident_is_not_counted_and_an_open_one_disturbs_until_now() -> None:
    moment = START + 10 * DAY + NOON
    assert cases(plan(incident(moment, part_of=5))) == []
    still = incident(moment, ended_at=None, ending="")
    assert cases(plan(still, incident(moment + 2 * DAY))) == [Window(moment - 600, moment - 60, 12, still.id)]
    assert max(one.end for one in plan(still)) <= moment


def test_no_window_lies_in_maintenance_or_where_nobody_watched() -> None:
    moment = START + 10 * DAY + NOON
    repair = Span(moment - 2 * DAY - HOUR, moment - 2 * DAY - 590)
    before = moment - 600
    assert before - 2 * DAY in starts(plan(incident(moment)))
    found = others(plan(incident(moment), watched=replace(ALL, maintenance=[repair])))
    assert before - 2 * DAY not in starts(found)
    assert all(one.start >= repair.end or one.end <= repair.start for one in found)
    assert cases(plan(incident(moment - 2 * DAY), watched=replace(ALL, maintenance=[repair]))) == []
    hours = {int(START) + hour * HOUR for hour in range(DAYS * 24)}
    hour = int(moment) - HOUR
    assert before + DAY in starts(plan(incident(moment), watched=replace(ALL, hours=hours)))
    assert before + DAY not in starts(plan(incident(moment), watched=replace(ALL, hours=hours - {hour + DAY})))
    assert plan(incident(moment), watched=replace(ALL, hours=hours - {hour})) == []
    # A window that touches two hours needs both.
    assert cases(plan(incident(moment + 300), watched=replace(ALL, hours=hours - {hour}))) == []
    assert len(cases(plan(incident(moment + 660), watched=replace(ALL, hours=hours - {hour})))) == 1


def test_no_two_windows_overlap() -> None:
    moments = [START + day * DAY + NOON + 37 * day for day in range(1, 27)]
    windows = sorted(plan(*map(incident, moments)))
    assert len(cases(windows)) == 26
    assert all(one.end <= other.start for one, other in pairwise(windows))


def test_the_newest_incidents_of_a_service_count_and_the_services_with_the_most() -> None:
    many = [incident(START + day * DAY + hour * HOUR) for day in range(DAYS) for hour in (3, 9, 15, 21)]
    newest = [one.id for one in sorted(many, key=lambda one: -one.id)[:MOST_OF_SERVICE]]
    assert [one.incident for one in cases(plan(*many))] == newest
    storm = [incident(START + number, f"s{number}") for number in range(500)]
    twice = [incident(START + DAY, "twice"), incident(START + 2 * DAY, "twice")]
    found = chosen_services([*storm, *many, *twice, incident(START, "lone", part_of=7)], most=100)
    assert found[:2] == ["madre", "twice"]
    assert len(found) == 2 + 100 - MOST_OF_SERVICE - 2
    assert "lone" not in found


@pytest.mark.parametrize(
    ("probe", "margin"),
    [
        (ProbeSettings(), LEAST_MARGIN),
        (ProbeSettings(interval=300, timeout=10, failures=2), 352),
        (ProbeSettings(kind="heartbeat", silence=900), 900),
        (ProbeSettings(kind="heartbeat", silence=5), LEAST_MARGIN),
        (ProbeSettings(kind="none", interval=3000), LEAST_MARGIN),
    ],
)
def test_the_margin_is_what_the_probes_need_to_notice_a_failure(probe: ProbeSettings, margin: float) -> None:
    assert margin_of(probe) == pytest.approx(margin)


def test_after_the_clock_was_set_the_moment_is_by_the_clock_of_the_events() -> None:
    moment = START + 10 * DAY
    one = incident(moment)
    assert moment_of(one, None) == moment_of(one, Opening(7, at(moment + 0.5))) == moment
    # The start was corrected by an hour; the events, and the event of the opening, were not.
    corrected = replace(one, started_at=at(moment + HOUR))
    assert moment_of(corrected, Opening(7, at(moment + 0.5))) == moment - 0.5
    # Recorded late, by the process that came after a kill.
    assert moment_of(one, Opening(7, at(moment + HOUR))) == moment
    # The id is far beyond the clock, since an earlier one was.
    beyond = replace(one, id=one.id + 10**12)
    assert moment_of(beyond, Opening(7, at(moment + 1))) == moment


def test_types_beyond_the_limit_are_not_kept() -> None:
    counts = WindowCounts("madre", 60)
    counts.add(Window(0, 1, 0, 5), [("s", f"t{number}", number) for number in range(MOST_TYPES + 10)])
    assert len(list(counts.precursors())) == MOST_TYPES


# -- simulations: what a report claims ----------------------------------------------------------------------------

Types = dict[str, list[float]]


def report(incidents: list[Incident], types: Types, margin: float = LEAST_MARGIN) -> dict[str, Precursor]:
    """The report of madre on events at these times."""
    windows = plan_windows("madre", incidents, {}, margin, ALL)
    counts = WindowCounts("madre", margin)
    known = {name: sorted(times) for name, times in types.items()}

    def came(times: list[float], window: Window) -> bool:
        place = bisect_left(times, window.start)
        return place < len(times) and times[place] < window.end

    for window in windows:
        counts.add(window, [("s", name, 1) for name, times in known.items() if came(times, window)])
    found = list(counts.precursors())
    p_values = [one.p for one in found if one.p is not None]
    (result,) = with_q([counts.result(found)], p_values)
    return {one.type: one for one in result.precursors}


def rhythm(chance: random.Random) -> float:
    """A moment of the four weeks; most of them are in working hours."""
    hour = chance.gauss(11, 2) % 24 if chance.random() < 0.8 else chance.uniform(0, 24)
    return START + chance.randrange(DAYS) * DAY + hour * HOUR


def unrelated(chance: random.Random) -> Types:
    """Twenty types: single events, bursts and a job of every night, each by itself."""
    types: Types = {}
    for number in range(14):
        types[f"single{number}"] = [rhythm(chance) for _ in range(chance.choice([10, 40, 300, 2000]))]
    for number in range(4):
        bursts = [rhythm(chance) for _ in range(chance.choice([20, 100]))]
        types[f"burst{number}"] = [begin + second for begin in bursts for second in range(0, 120, 2)]
    for number in range(2):
        types[f"job{number}"] = [START + day * DAY + (9 + 2 * number) * HOUR + 30 for day in range(DAYS)]
    return types


def some_incidents(
    chance: random.Random, count: int, moment: Callable[[random.Random], float] = rhythm
) -> list[Incident]:
    return [incident(moment(chance)) for _ in range(count)]


@pytest.mark.thorough
def test_without_any_relation_at_most_one_report_in_twenty_claims_one() -> None:
    reports, claiming, tested = 200, 0, 0
    for seed in range(reports):
        chance = random.Random(seed)
        found = report(some_incidents(chance, chance.choice([5, 8, 15])), unrelated(chance))
        tested += sum(one.p is not None for one in found.values())
        claiming += any(one.is_claimed for one in found.values())
    assert tested > 5 * reports
    assert claiming <= reports / 20


def test_a_job_of_every_day_is_no_cause_of_incidents_at_its_hour() -> None:
    claiming = 0
    for seed in range(100):
        chance = random.Random(seed)
        noon = some_incidents(chance, 8, lambda chance: START + chance.randrange(DAYS) * DAY + NOON + chance.random())
        found = report(noon, {"backup": [START + day * DAY + NOON - 300 for day in range(DAYS)]})
        assert found["backup"].others_with >= 7
        claiming += found["backup"].is_claimed
    assert claiming == 0


@pytest.mark.thorough
def test_a_planted_cause_is_found_among_others_and_its_burst_is_one_occurrence() -> None:
    found = 0
    for seed in range(50):
        chance = random.Random(seed)
        incidents = some_incidents(chance, 8)
        types = unrelated(chance)
        caused = [one.started_at.timestamp() - chance.uniform(120, 540) for one in incidents if chance.random() < 0.8]
        elsewhere = [rhythm(chance) for _ in range(15)]
        types["deploy.started"] = [moment + second / 10 for moment in caused + elsewhere for second in range(100)]
        result = report(incidents, types)
        assert len(result["deploy.started"].before) <= 8
        found += result["deploy.started"].is_claimed
    assert found >= 47


@pytest.mark.thorough
def test_a_consequence_in_the_last_minute_is_no_cause() -> None:
    claimed = {LEAST_MARGIN: 0, 0.0: 0}
    for seed in range(50):
        chance = random.Random(seed)
        incidents = some_incidents(chance, 8)
        errors = [one.started_at.timestamp() - chance.uniform(0, 59) + more for one in incidents for more in range(30)]
        for margin in claimed:
            found = report(incidents, unrelated(chance) | {"error": errors}, margin)
            claimed[margin] += "error" in found and found["error"].is_claimed
    assert claimed[LEAST_MARGIN] == 0
    assert claimed[0.0] >= 48, "the margin is what keeps it from being claimed"


def test_four_incidents_are_counted_and_prove_nothing() -> None:
    moments = [START + day * DAY + NOON for day in (5, 10, 15, 20)]
    causes = [moment - 300 for moment in moments]
    four = report([incident(moment) for moment in moments], {"deploy": causes})["deploy"]
    assert (len(four.before), four.others_with, four.p, four.is_claimed) == (4, 0, None, False)
    five = report([incident(moment) for moment in (*moments, START + 25 * DAY)], {"deploy": causes})["deploy"]
    assert five.p is not None
    assert five.is_claimed


def test_what_was_counted_is_said_in_one_sentence() -> None:
    deploy = Precursor("ci", "deploy.started", dict.fromkeys(range(5), 1), 1, 1e-6, 2e-5)
    one = ServicePrecursors("madre", 60, (0, 1, 2, 3, 4, 5), 80, (deploy,))
    assert one.sentence(deploy) == (
        "5 of 6 incidents of madre were preceded within 10 minutes by deploy.started of ci;"
        " on other days at that hour 1 of 80."
    )
    assert one.sentence(replace(deploy, q=0.2)).endswith("1 of 80. This may be chance.")
    few = replace(one, incidents=(0, 1, 2))
    assert few.sentence(replace(deploy, p=None, q=None)).endswith("1 of 80. 5 incidents are needed for a claim.")


def test_a_job_of_working_days_is_no_cause_of_incidents_on_working_days() -> None:
    working = [day for day in range(DAYS) if day % 7 < 5]
    claiming = 0
    for seed in range(50):
        chance = random.Random(seed)
        incidents = [incident(START + day * DAY + NOON + chance.random()) for day in chance.sample(working, 15)]
        claiming += report(incidents, {"report": [START + day * DAY + NOON - 300 for day in working]})[
            "report"
        ].is_claimed
    assert claiming == 0
