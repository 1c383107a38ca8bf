"""The skip index leaves out blocks without what is looked for, and never one that has it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, func, select, update

from tentaculo.model.event import Event, EventFilter
from tentaculo.model.health import GATEWAY_NAME
from tentaculo.store import event_blocks, event_queries, tables
from tentaculo.store.client import StoreClient
from tentaculo.store.event_blocks import Block, BlockBuilder, needles, store_block
from tentaculo.store.event_queries import read_events
from tentaculo.store.events import EventRetention, append_events, event_row, name_log
from tests.support.runtime_tables import opened
from tests.support.store_samples import NOW, event

ROWS = 12
"""Rows of one block here."""


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small blocks, which a search asks at once."""
    monkeypatch.setattr(event_blocks, "MOST_ROWS", ROWS)
    monkeypatch.setattr(event_blocks, "AT_ONCE", 5)
    monkeypatch.setattr(event_blocks, "_BLOCKS_AT_ONCE", 2)
    monkeypatch.setattr(event_queries, "WITHOUT_BLOCKS", 0)
    monkeypatch.setattr(event_queries, "LOOK_EVERY", 1)
    monkeypatch.setattr(event_queries, "SEARCH_SECONDS", 3600)


@pytest.fixture
def connection(url: str) -> Iterator[Connection]:
    """A log with a name, on either database."""
    with opened(url) as connection:
        name_log(connection, "here", ("", 0))
        yield connection


def fill(connection: Connection, events: Sequence[Event]) -> None:
    append_events(connection, [event_row(one) for one in events])


def hay(count: int, first: int = 1, **changes: Any) -> list[Event]:
    return [event(number, payload={"text": f"hay{number:04}"}, **changes) for number in range(first, first + count)]


def build(connection: Connection) -> int:
    """Make all blocks that there are events for; returns how many."""
    builder, made = BlockBuilder(), 0
    while builder.begin(connection):
        while builder.step(connection):
            pass
        assert builder.block is not None
        store_block(connection, builder.block)
        made += 1
    return made


def rows(connection: Connection) -> list[tuple[int, int]]:
    c = tables.event_blocks.c
    return [(after, last) for after, last in connection.execute(select(c.after_id, c.last_id).order_by(c.last_id))]


def found(connection: Connection, wanted: EventFilter, *, newest_first: bool = False, **bounds: Any) -> list[int]:
    """The ids that a search finds which continues until all has been looked at."""
    ids = list[int]()
    while True:
        one = read_events(connection, wanted, limit=1000, newest_first=newest_first, **bounds)
        ids += [event.id for event in one.events]
        if one.reached is None:
            return ids
        bounds["before" if newest_first else "after"] = one.reached


def spoil(connection: Connection, *ids: int) -> None:
    """Write another text into rows behind the back of the index."""
    c = tables.events.c
    connection.execute(update(tables.events).where(c.id.in_(ids)).values(payload='{"text":"needle"}'))


def test_blocks_follow_each_other_and_leave_the_rest(connection: Connection) -> None:
    assert build(connection) == 0
    fill(connection, hay(3 * ROWS + 5))
    assert build(connection) == 3
    assert rows(connection) == [(0, ROWS), (ROWS, 2 * ROWS), (2 * ROWS, 3 * ROWS)]
    assert build(connection) == 0
    fill(connection, hay(ROWS, first=3 * ROWS + 6))
    assert build(connection) == 1
    assert rows(connection)[-1] == (3 * ROWS, 4 * ROWS)


@pytest.mark.parametrize("newest_first", [True, False])
def test_a_search_reads_no_block_without_the_text(connection: Connection, newest_first: bool) -> None:
    fill(connection, [*hay(4 * ROWS), event(4 * ROWS + 1, payload={"text": "needle"})])
    assert build(connection) == 4
    # The first rows are read before the blocks are asked, and the newest ones have no block.
    spoil(connection, *range(2, 4 * ROWS))
    assert found(connection, EventFilter(text="NEEDLE"), newest_first=newest_first) == [4 * ROWS + 1]
    assert len(found(connection, EventFilter(text="ne"), newest_first=newest_first)) == 4 * ROWS - 1, "too short"
    assert found(connection, EventFilter(text="hay0001")) == [1]


@pytest.mark.parametrize("newest_first", [True, False])
def test_a_block_that_may_have_the_text_is_read(connection: Connection, newest_first: bool) -> None:
    events = [event(n, payload={"text": "needle" if n in (5, 20, 21, 40) else "hay"}) for n in range(1, 6 * ROWS)]
    fill(connection, events)
    build(connection)
    # The block of rows 13 to 24 is read whole.
    spoil(connection, 15, 30, 55)
    ids = [5, 15, 20, 21, 40]
    ids = ids[::-1] if newest_first else ids
    assert found(connection, EventFilter(text="needle"), newest_first=newest_first) == ids
    limited = read_events(connection, EventFilter(text="needle"), limit=2, newest_first=newest_first)
    assert ([one.id for one in limited.events], limited.reached) == (ids[:2], None)
    inside = found(connection, EventFilter(text="needle"), newest_first=newest_first, after=14, before=21)
    assert sorted(inside) == [15, 20]


def test_correlations_and_names_lead_to_their_blocks_only(connection: Connection) -> None:
    own = event(30, source=GATEWAY_NAME, payload={"service": "madre-two"})
    fill(connection, [*hay(29, source="mcp"), own, *hay(30, 31, source="mcp"), event(61, source="madre-two")])
    fill(connection, [event(62, payload={"job": "AÉ-7711"}), *hay(30, 63, source="mcp")])
    build(connection)
    spoil(connection, 20, 45, 80)
    assert found(connection, EventFilter(about=("madre-two",))) == [30, 61]
    assert found(connection, EventFilter(about=("madre-two",), text="needle")) == []
    assert found(connection, EventFilter(correlation="AÉ-7711")) == [62]
    assert found(connection, EventFilter(correlation="needle")) == []


def test_an_index_of_another_log_is_not_used_and_made_again(connection: Connection) -> None:
    fill(connection, hay(2 * ROWS))
    build(connection)
    spoil(connection, 20)
    assert found(connection, EventFilter(text="needle")) == []
    connection.execute(update(tables.event_sequence).values(name="another"))
    assert found(connection, EventFilter(text="needle")) == [20]
    assert build(connection) == 2
    assert set(connection.scalars(select(tables.event_blocks.c.log))) == {"another"}
    assert found(connection, EventFilter(text="needle")) == [20]


def test_a_block_is_stored_once_and_for_its_log_only(connection: Connection) -> None:
    name = connection.scalar(select(tables.event_sequence.c.name))
    assert name is not None
    store_block(connection, Block(name, 0, 10, b"\0" * 8192))
    for block in (Block(name, 0, 20, None), Block("another", 10, 30, None)):
        store_block(connection, block)
    assert rows(connection) == [(0, 10)]
    store_block(connection, Block(name, 10, 20, None))
    assert rows(connection) == [(0, 10), (10, 20)]


def test_a_row_that_cannot_be_read_makes_its_block_say_nothing(file: Path) -> None:
    with opened(f"sqlite:///{file}") as connection:
        name_log(connection, "here", ("", 0))
        fill(connection, hay(2 * ROWS))
        connection.exec_driver_sql("UPDATE tentaculo_events SET payload = x'00ff' WHERE id = 3")
        build(connection)
        spoil(connection, 7, 20)
        assert found(connection, EventFilter(text="needle")) == [7]


def test_a_block_ends_early_where_its_events_are_large_or_have_many_words(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_blocks, "MOST_BYTES", 4000)
    fill(connection, [event(n, payload={"text": "a" * 1500}) for n in range(1, 8)])
    assert build(connection) == 2
    assert rows(connection) == [(0, 3), (3, 6)]
    monkeypatch.setattr(event_blocks, "MOST_SET", 0.0005)
    fill(connection, hay(2 * ROWS, first=8))
    build(connection)
    assert len(rows(connection)) > 4


def test_a_builder_whose_rows_are_gone_says_so(connection: Connection) -> None:
    fill(connection, hay(ROWS))
    builder = BlockBuilder()
    assert builder.begin(connection)
    connection.execute(tables.events.delete().where(tables.events.c.id > 5))
    assert builder.step(connection)
    assert not builder.step(connection)
    assert builder.block is None


async def test_retention_deletes_the_blocks_of_what_it_deletes(url: str) -> None:
    client = StoreClient(url, event_wait=20.0)
    await client.start()
    old = [event(n, source=GATEWAY_NAME if n == 5 else "madre", payload={"text": "hay"}) for n in range(1, 3 * ROWS)]
    await client.store_events(old)
    await client.store_events(hay(ROWS, 3 * ROWS, received_at=NOW + timedelta(days=2)))
    assert await client.run(build) == 3
    client.trim_events(EventRetention(NOW + timedelta(days=1), 10**9))
    while await client.run(lambda connection: connection.scalar(select(func.count()).select_from(tables.events))) > 14:
        pass
    assert await client.run(rows) == [(2 * ROWS, 3 * ROWS)]
    # What is left of the others is found without them.
    result = await client.read_events(EventFilter(text="hay"), limit=50)
    assert [one.id for one in result.events] == [5, *range(3 * ROWS, 4 * ROWS)]
    await client.close()


ALPHABET = st.sampled_from(
    [*'aAbB01kKsS_%!-" \\\n', *"éÉßẞ\u017f\u212aİ\u0131Σ\u03c3ςжЖ日木", "\0", "\U0001f419", "\ud800"]
)
WORDS = st.lists(ALPHABET, min_size=1, max_size=9).map("".join)


@st.composite
def searches(draw: st.DrawFn) -> tuple[list[str], EventFilter]:
    texts = draw(st.lists(WORDS, min_size=3, max_size=30))
    inner = draw(st.sampled_from(texts))
    start = draw(st.integers(0, len(inner) - 1))
    part = draw(st.one_of(st.just(inner[start:]), WORDS)).swapcase()
    wanted = EventFilter(text=part), EventFilter(correlation=part), EventFilter(about=(part, "a0b"))
    return texts, draw(st.sampled_from(wanted))


@pytest.mark.thorough
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=searches(), newest_first=st.booleans(), is_hurried=st.booleans())
@example(case=(["\u017ftraße", "STRASSE", "straẞe"], EventFilter(text="STRAßE")), newest_first=True, is_hurried=False)
@example(case=(["\u212aelvin", "kelvin", "Kelvin"], EventFilter(text="kelvin")), newest_first=False, is_hurried=True)
def test_a_search_finds_what_it_finds_without_the_index(
    file: Path, case: tuple[list[str], EventFilter], newest_first: bool, is_hurried: bool
) -> None:
    texts, wanted = case
    with pytest.MonkeyPatch.context() as patch, opened(f"sqlite:///{file}") as connection:
        # Few bits, so that some blocks are read that have nothing.
        patch.setattr(event_blocks, "BITS", 2**9)
        patch.setattr(event_blocks, "MOST_ROWS", 3)
        patch.setattr(event_queries, "SEARCH_SECONDS", 0 if is_hurried else 3600)
        name_log(connection, "here", ("", 0))
        fill(
            connection,
            [
                event(n, source=GATEWAY_NAME if n % 3 else text, payload={"text": text}, metadata={text: [text]})
                for n, text in enumerate(texts, 1)
            ],
        )
        plain = found(connection, wanted, newest_first=newest_first)
        build(connection)
        assert found(connection, wanted, newest_first=newest_first) == plain
        connection.rollback()


def test_short_texts_and_separators_say_nothing() -> None:
    for text in ("", "ab", "é", "a-b-c", "<<>>"):
        assert needles(EventFilter(text=text)) == []
    assert needles(EventFilter(about=("madre", "ab"))) == []
    assert needles(EventFilter(text="madre", about=("ab",))) != []
    (bits,) = needles(EventFilter(text="x".join(map(str, range(90)))))
    assert len(bits) < 150
