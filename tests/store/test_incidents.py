"""Incidents, notes and windows as they are kept, on SQLite and PostgreSQL, through the store client as the gateway does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text

from tentaculo.model.health import Health
from tentaculo.model.incident import (
    Acknowledgement,
    ChannelTotals,
    DeliveryOutcome,
    DeliveryRecord,
    Incident,
    MaintenanceWindow,
    NotificationState,
    Notified,
)
from tentaculo.model.reason import because
from tentaculo.store import incidents
from tentaculo.store.client import StoreClient
from tentaculo.store.errors import StoreUnavailable

NOW = datetime(2026, 3, 14, 15, 9, 26, 535897, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def incident(number: int, **changes: object) -> Incident:
    known = Incident(
        1_790_000_000_000 + number, "switch", ("switch", "operator"), Health.DOWN, "connection refused", NOW, NOW
    )
    return replace(known, **changes)  # type: ignore[arg-type]


ENDED = {"ended_at": NOW + MINUTE, "ending": "It is healthy again: answered 200 in 4 ms"}


async def test_an_incident_is_read_as_it_was_saved(url: str, store_client_on: Callable[..., StoreClient]) -> None:
    store_client = store_client_on(url)
    await store_client.start()
    first, second = incident(1), incident(2, root="hermes", services=("hermes",), severity=Health.DEGRADED)
    await store_client.run(partial(incidents.save, changed=[second, first]))
    notified = {
        "duty": Notified(NotificationState.OPEN, NOW, Health.DOWN, 2),
        "archive": Notified(NotificationState.ENDED, NOW + MINUTE, Health.DEGRADED, 1),
    }
    deliveries = (
        DeliveryRecord("duty", "incident.opened", DeliveryOutcome.FAILED, NOW, NOW + MINUTE, 3, 30, "answered 502"),
        DeliveryRecord("duty", "incident.opened", DeliveryOutcome.DELIVERED, NOW + MINUTE, NOW + MINUTE),
    )
    counted = {"reopened_at": NOW, "failed_requests": 2**40, "counted_until": NOW + MINUTE}
    known = {"peak_error_rate": 0.375, "reopened": 3, "part_of": 7, "notified": notified, "deliveries": deliveries}
    first = incident(1, **known, **counted, **ENDED)
    await store_client.run(partial(incidents.save, changed=[first]))
    assert await store_client.run(partial(incidents.find, number=first.id)) == first
    assert await store_client.run(partial(incidents.find, number=5)) is None
    assert await store_client.run(partial(incidents.newest, limit=9)) == [second, first]


async def test_the_reason_keeps_its_code_and_values(url: str, store_client_on: Callable[..., StoreClient]) -> None:
    store_client = store_client_on(url)
    await store_client.start()
    cause = because("answered_but", status=200, what=because("invalid_http", what="its words: ñ \0"))
    ending = because("recovered", what=because("took", what=because("answered", status=200), milliseconds=4))
    known = incident(1, **{**ENDED, "ending": str(ending)}, reason=str(cause), cause=cause, ending_cause=ending)
    await store_client.run(partial(incidents.save, changed=[known, incident(2)]))
    second, first = await store_client.run(partial(incidents.newest, limit=9))
    assert first.cause.code == "answered_but"
    assert first.cause.plain_values() == {
        "status": 200,
        "what": {"code": "invalid_http", "values": {"what": "its words: ñ \0"}},
    }
    assert (first.ending_cause.code, first.ending_cause.plain_values()) == (ending.code, ending.plain_values())
    assert (second.cause, second.ending_cause) == (None, None)
    # Of an earlier version, or of a later one that writes it in another way.
    for values in ("NULL", "'[7]'", "'no json'"):
        damage = text(f"UPDATE tentaculo_incidents SET reason_values = {values}")
        await store_client.run(partial(Connection.execute, statement=damage))
        found = await store_client.run(partial(incidents.find, number=known.id))
        assert (found.cause, found.reason) == (None, known.reason.replace("\0", "\ufffd"))


async def test_what_another_hand_wrote_costs_that_answer_only(
    url: str, store_client_on: Callable[..., StoreClient]
) -> None:
    store_client = store_client_on(url)
    await store_client.start()
    await store_client.run(partial(incidents.save, changed=[incident(1)]))
    await store_client.run(
        lambda connection: connection.execute(text("UPDATE tentaculo_incidents SET severity = 'odd'"))
    )
    with pytest.raises(StoreUnavailable, match="cannot be read"):
        await store_client.run(partial(incidents.newest, limit=9))
    with pytest.raises(StoreUnavailable, match="refuses this"):
        await store_client.run(
            lambda connection: connection.execute(text("UPDATE tentaculo_incidents SET root = NULL"))
        )
    assert store_client.problem is None


async def test_pages_of_incidents(url: str, store_client_on: Callable[..., StoreClient]) -> None:
    store_client = store_client_on(url)
    await store_client.start()
    kept = [incident(number, **(ENDED if number % 2 else {})) for number in range(6)]
    await store_client.run(partial(incidents.save, changed=kept))

    async def numbers(**query: Any) -> list[int]:
        found = await store_client.run(partial(incidents.newest, **{"limit": 9, **query}))
        return [one.id - 1_790_000_000_000 for one in found]

    assert await numbers(limit=2) == [5, 4]
    assert await numbers(limit=2, before=kept[4].id) == [3, 2]
    assert await numbers(is_open=True) == [4, 2, 0]
    assert await numbers(is_open=False) == [5, 3, 1]


async def test_a_new_process_continues_what_is_open_and_what_was_announced(
    url: str, store_client_on: Callable[..., StoreClient]
) -> None:
    store_client = store_client_on(url)
    await store_client.start()
    kept = [incident(number, **(ENDED if number % 2 else {})) for number in range(4)]
    announced = {"duty": Notified(NotificationState.OPEN, NOW, Health.DOWN, 1)}
    kept.append(incident(4, notified=announced, **ENDED))
    kept.append(incident(5, notified=announced, **{**ENDED, "ended_at": NOW - 100 * MINUTE}))
    kept.append(incident(6, notified=announced, part_of=1, **{**ENDED, "ended_at": NOW - 100 * MINUTE}))
    done = {"duty": Notified(NotificationState.ENDED, NOW, Health.DOWN, 1)}
    kept.append(incident(7, notified=done, **ENDED))
    await store_client.run(partial(incidents.save, changed=kept))

    async def numbers(since: datetime, announced_since: datetime) -> list[int]:
        query = partial(incidents.unfinished, since=since, announced_since=announced_since, limit=9)
        return [one.id - 1_790_000_000_000 for one in await store_client.run(query)]

    assert await numbers(NOW + MINUTE, NOW) == [6, 4, 2, 0]
    assert await numbers(NOW, NOW) == [7, 6, 4, 3, 2, 1, 0]
    assert await numbers(NOW + MINUTE, NOW - 200 * MINUTE) == [6, 5, 4, 2, 0]


async def test_a_row_of_an_earlier_version_was_announced_on_every_channel(
    url: str, store_client_on: Callable[..., StoreClient]
) -> None:
    store_client = store_client_on(url)
    await store_client.start()
    known = Notified(NotificationState.OPEN, NOW, Health.DOWN, 2)
    await store_client.run(partial(incidents.save, changed=[incident(1, notified={"duty": known}), incident(2)]))
    await store_client.run(
        lambda connection: connection.execute(text("UPDATE tentaculo_incidents SET notified = NULL"))
    )
    second, first = await store_client.run(partial(incidents.newest, limit=9))
    assert (first.notified_by("duty"), first.notified_by("archive")) == (known, known)
    assert second.notified_by("duty") is None
    await store_client.run(
        lambda connection: connection.execute(text("UPDATE tentaculo_incidents SET notified = '[7]'"))
    )
    with pytest.raises(StoreUnavailable, match="cannot be read"):
        await store_client.run(partial(incidents.newest, limit=9))


@pytest.mark.parametrize("written", ["NULL", "'[7]'", "'not json'"])
async def test_deliveries_of_another_version_do_not_hide_the_incident(
    url: str, store_client_on: Callable[..., StoreClient], written: str
) -> None:
    store_client = store_client_on(url)
    await store_client.start()
    delivery = DeliveryRecord("duty", "incident.opened", DeliveryOutcome.DELIVERED, NOW, NOW)
    await store_client.run(partial(incidents.save, changed=[incident(1, deliveries=(delivery,))]))
    await store_client.run(
        lambda connection: connection.execute(text(f"UPDATE tentaculo_incidents SET deliveries = {written}"))
    )
    assert await store_client.run(partial(incidents.newest, limit=9)) == [incident(1)]


async def test_the_totals_of_channels_grow_and_go_when_they_are_old(
    url: str, store_client_on: Callable[..., StoreClient]
) -> None:
    store_client = store_client_on(url)
    await store_client.start()

    async def add(*totals: ChannelTotals) -> None:
        await store_client.run(partial(incidents.add_channels, totals=totals))

    await add(ChannelTotals("duty", 2, 0, NOW), ChannelTotals("archive", 0, 1, None, NOW, "answered\0 502"))
    await add(ChannelTotals("duty", 0, 1, None, NOW + MINUTE, "connection refused"))
    await add(ChannelTotals("duty", 1, 0, NOW + 2 * MINUTE))
    await add()
    found = await store_client.run(partial(incidents.read_channels, names=["duty", "archive", "phone"]))
    assert found == {
        "duty": ChannelTotals("duty", 3, 1, NOW + 2 * MINUTE, NOW + MINUTE, "connection refused"),
        "archive": ChannelTotals("archive", 0, 1, None, NOW, "answered\ufffd 502"),
    }
    assert set(await store_client.run(partial(incidents.read_channels, names=["archive"]))) == {"archive"}
    await store_client.run(partial(incidents.forget, before=NOW + MINUTE))
    assert set(await store_client.run(partial(incidents.read_channels, names=["duty", "archive"]))) == {"duty"}


async def test_the_latest_acknowledgement_comes_with_its_incident_and_goes_with_it(
    url: str, store_client_on: Callable[..., StoreClient]
) -> None:
    store_client = store_client_on(url)
    await store_client.start()
    old, new = incident(1, **ENDED), incident(2)
    await store_client.run(partial(incidents.save, changed=[old, new]))

    async def acknowledge(one: Incident, note: str) -> Acknowledgement:
        work = partial(incidents.add_acknowledgement, incident=one.id, author="ana ñ", note=note, at=NOW)
        made: Acknowledgement = await store_client.run(work)
        return made

    await acknowledge(new, "one")
    latest = [await acknowledge(new, "two\ntwo"), await acknowledge(old, "")]
    assert latest[0] == Acknowledgement(2, new.id, NOW, "ana ñ", "two\ntwo")
    known = [replace(new, acknowledged=latest[0]), replace(old, acknowledged=latest[1])]
    assert await store_client.run(partial(incidents.newest, limit=9)) == known
    assert await store_client.run(partial(incidents.find, number=new.id)) == known[0]
    unfinished = partial(incidents.unfinished, since=NOW, announced_since=NOW, limit=9)
    assert await store_client.run(unfinished) == known
    everything = await store_client.run(partial(incidents.acknowledgements_of, numbers=[new.id, old.id], limit=9))
    assert [one.note for one in everything] == ["one", "two\ntwo", ""]
    newest = await store_client.run(partial(incidents.acknowledgements_of, numbers=[new.id], limit=1))
    assert newest == [latest[0]]
    # What is saved of the incident does not touch it.
    await store_client.run(partial(incidents.save, changed=[new]))
    assert await store_client.run(partial(incidents.find, number=new.id)) == known[0]
    await store_client.run(partial(incidents.forget, before=NOW + 2 * MINUTE))
    left = await store_client.run(partial(incidents.latest_acknowledgements, numbers=[old.id, new.id]))
    assert left == {new.id: latest[0]}


async def test_notes_stand_in_their_order_and_go_with_their_incident(
    url: str, store_client_on: Callable[..., StoreClient]
) -> None:
    store_client = store_client_on(url)
    await store_client.start()
    old, new = incident(1, **ENDED), incident(2)
    await store_client.run(partial(incidents.save, changed=[old, new]))
    for number, words in ((old.id, "one\0"), (old.id, "two ñ"), (new.id, "three")):
        await store_client.run(partial(incidents.add_note, incident=number, author="ana", text=words, at=NOW))
    found = await store_client.run(partial(incidents.notes, numbers=[old.id], limit=9))
    assert [(one.incident, one.text, one.author, one.at) for one in found] == [
        (old.id, "one\ufffd", "ana", NOW),
        (old.id, "two ñ", "ana", NOW),
    ]
    assert [one.text for one in await store_client.run(partial(incidents.notes, numbers=[old.id], limit=1))] == [
        "two ñ"
    ]
    assert await store_client.run(partial(incidents.forget, before=NOW)) == 0
    assert await store_client.run(partial(incidents.forget, before=NOW + 2 * MINUTE)) == 1
    assert await store_client.run(partial(incidents.newest, limit=9)) == [new]
    left = await store_client.run(partial(incidents.notes, numbers=[old.id, new.id], limit=9))
    assert [one.text for one in left] == ["three"]


async def test_windows_are_kept_until_they_are_over(url: str, store_client_on: Callable[..., StoreClient]) -> None:
    store_client = store_client_on(url)
    await store_client.start()
    later = MaintenanceWindow(("hermes",), NOW + 5 * MINUTE, NOW + 9 * MINUTE, "a new disk", "ana")
    holds = MaintenanceWindow((), NOW - MINUTE, NOW + MINUTE, "everything moves")
    stored = [await store_client.run(partial(incidents.add_window, window=window)) for window in (later, holds)]
    assert [(one.id, replace(one, id=None)) for one in stored] == [(1, later), (2, holds)]
    assert await store_client.run(partial(incidents.windows, after=NOW, limit=9)) == [stored[1], stored[0]]
    assert await store_client.run(partial(incidents.windows, after=NOW + MINUTE, limit=9)) == [stored[0]]
    moved = replace(stored[1], reason="two disks", ends_at=stored[1].ends_at + timedelta(hours=1))
    assert await store_client.run(partial(incidents.change_window, window=moved, now=NOW)) == moved
    over = moved.ends_at + timedelta(seconds=1)
    assert await store_client.run(partial(incidents.change_window, window=moved, now=over)) is None, "it is over"
    assert await store_client.run(partial(incidents.change_window, window=stored[1], now=NOW)) == stored[1]
    assert await store_client.run(partial(incidents.end_window, number=3, now=NOW)) is None
    assert await store_client.run(partial(incidents.end_window, number=2, now=NOW)) == replace(stored[1], ends_at=NOW)
    assert await store_client.run(partial(incidents.end_window, number=2, now=NOW)) is None, "it is over"
    assert await store_client.run(partial(incidents.end_window, number=1, now=NOW)) == later_with_number(later)
    assert await store_client.run(partial(incidents.windows, after=NOW - 9 * MINUTE, limit=9)) == [
        replace(stored[1], ends_at=NOW)
    ], "one that had not begun is gone"


async def test_a_window_that_another_process_ended_or_changed_is_not_moved(
    url: str, store_client_on: Callable[..., StoreClient]
) -> None:
    store_client = store_client_on(url)
    await store_client.start()
    planned = MaintenanceWindow(("hermes",), NOW - MINUTE, NOW + 9 * MINUTE, "a new disk")
    stored = await store_client.run(partial(incidents.add_window, window=planned))
    moved = replace(stored, starts_at=NOW, ends_at=NOW + 10 * MINUTE)
    move = partial(incidents.move_window, window=moved, before=stored)
    assert await store_client.run(move)
    assert await store_client.run(partial(incidents.windows, after=NOW, limit=9)) == [moved]
    assert not await store_client.run(move), "it has other times now"
    await store_client.run(partial(incidents.end_window, number=stored.id, now=NOW + MINUTE))
    assert not await store_client.run(partial(incidents.move_window, window=stored, before=moved))
    assert await store_client.run(partial(incidents.windows, after=NOW + MINUTE, limit=9)) == []


def later_with_number(window: MaintenanceWindow) -> MaintenanceWindow:
    return replace(window, id=1)


async def test_a_lost_database_says_so_at_once(tmp_path: Path, store_client_on: Callable[..., StoreClient]) -> None:
    store_client = store_client_on(f"sqlite:///{tmp_path / 'nothing.db'}")
    await store_client.start()
    with pytest.raises(StoreUnavailable, match="does not exist"):
        await store_client.run(partial(incidents.newest, limit=9))
