"""The skip index of the log: for each block of events which parts of words it has, so that a search leaves blocks out.

    text ─▶ fold_case ─▶ UTF-8 ─▶ words ─▶ parts of 3 and 5 bytes ─▶ one bit for each (a Bloom filter with one hash)

A word is a run of ASCII letters, digits and bytes beyond ASCII. Where a text contains another one, each word of the inner
one is inside a word of the outer one, and so is each part of it. So a block without the bit of one part has no event that
a search can find. A bit that is set says nothing: the rows of such a block are read.

Blocks are made behind the log, never in the commit of an event. Each begins where the one before it ends. Events that no
block covers are read as if there were no index: the newest ones, those of a log that has another name, and the oldest
ones once retention has deleted their neighbours.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple
from zlib import crc32

from sqlalchemy import ColumnElement, Connection, and_, bindparam, cast, delete, exists, func, insert, or_, select

from tentaculo.model.event import EventFilter
from tentaculo.model.text import fold_case, has_case
from tentaculo.store.tables import event_blocks, event_sequence, events, storable

BITS = 2**16
"""Bits of one block: 8 KiB."""
MOST_ROWS, MOST_BYTES = 512, 256 * 1024
"""A block ends with the event that gives it so many rows, or bytes."""
MOST_SET = 0.6
"""The share of bits that are set from which a block ends earlier, if it has a quarter of that: it would exclude little."""
_USELESS = 0.9
"""The share from which the bits are not worth their bytes."""
AT_ONCE = 16
"""Rows read in one step while a block is made."""
_STEP_BYTES = 64 * 1024
_TEXT_PART = 16 * 1024
"""Bytes looked at in one call, which holds the interpreter: less than a millisecond."""
_MOST_WORDS = 20_000
"""Words of a block that are remembered, so that none is looked at twice."""
_SHORT, _LONG = 3, 5
"""Bytes of the parts. Longer ones tell numbers apart, shorter ones serve short texts."""
_MOST_TESTED = 64
"""Bits tested for one text."""
_BLOCKS_AT_ONCE = 128
SEARCHED = (events.c.source, events.c.type, events.c.payload, events.c.metadata)
"""The texts of an event that a search reads."""
_WORD = re.compile(rb"[a-z0-9\x80-\xff]{%d,}" % _SHORT)

Bits = tuple[int, ...]
"""The bits of one text, each set in a block that may have it."""


class Span(NamedTuple):
    """Ids greater than `after` and up to `upto`. An empty one, where they are equal, has been excluded up to there."""

    after: int
    upto: int


class Block(NamedTuple):
    """A finished block: ids greater than `after_id` and up to `last_id` of the log `log`."""

    log: str
    after_id: int
    last_id: int
    bits: bytes | None
    """None where its rows may have anything."""


def _word_bits(word: bytes) -> set[int]:
    mask, size = BITS - 1, len(word)
    found = {crc32(word[start : start + _LONG]) & mask for start in range(size - _LONG + 1)}
    found |= {crc32(word[start : start + _SHORT]) & mask for start in range(size - _SHORT + 1)}
    return found


def needles(wanted: EventFilter) -> list[Bits]:
    """What a block must have for an event that `wanted` selects: all bits of one of these. Empty where that says nothing."""
    every = set[int]()
    if wanted.text:
        every |= _text_bits(fold_case(storable(wanted.text)))
    if wanted.correlation:
        # As the query does: a letter with case beyond ASCII stands for any character.
        every |= _text_bits(_without_case(storable(json.dumps(wanted.correlation, ensure_ascii=False)[1:-1])))
    options = [every | _text_bits(_without_case(storable(name))) for name in wanted.about] or [every]
    if not all(options):
        return []
    return [tuple(sorted(option)[:: max(1, len(option) // _MOST_TESTED)]) for option in options]


def _text_bits(text: str) -> set[int]:
    found = set[int]()
    for word in _WORD.findall(text.encode()):
        found |= _word_bits(word)
    return found


def _without_case(text: str) -> str:
    return "".join(one.lower() if one.isascii() else " " if has_case(one) else one for one in text)


def has_blocks(connection: Connection) -> bool:
    """Whether the log has an index at all."""
    return connection.scalar(select(event_blocks.c.last_id).where(_is_current()).limit(1)) is not None


def spans(
    connection: Connection, wanted: Sequence[Bits], *, after: int, upto: int, newest_first: bool
) -> Iterator[Span]:
    """The spans of ids, greater than `after` and up to `upto`, that may have what `wanted` says, in the order of reading.

    Now and then an empty one says how far all has been excluded.
    """
    c = event_blocks.c
    may_have = _may_have(wanted) if connection.dialect.name == "postgresql" else c.bits
    query = select(c.after_id, c.last_id, may_have).where(_is_current())
    query = query.order_by(c.last_id.desc() if newest_first else c.last_id).limit(_BLOCKS_AT_ONCE)
    tests = [[(bit >> 3, 1 << (bit & 7)) for bit in bits] for bits in wanted]
    start, low, high = (upto if newest_first else after), after, upto
    while low < high:
        blocks = connection.execute(query.where(c.last_id > low, c.after_id < high)).all()
        for first, last, found in blocks:
            first, last = max(first, low), min(last, high)
            if isinstance(found, bytes):
                found = any(all(found[place] & bit for place, bit in test) for test in tests)
            if found is not None and not found:
                # From `start` to this block no other one was excluded: blocks that may match, and what has no index.
                if newest_first:
                    yield from _span(last, start)
                    start = first
                else:
                    yield from _span(start, first)
                    start = last
            low, high = (low, first) if newest_first else (last, high)
        if len(blocks) < _BLOCKS_AT_ONCE:
            break
        yield Span(high, start) if newest_first else Span(start, low)
        start = high if newest_first else low
    yield from _span(after, start) if newest_first else _span(start, upto)


def _span(after: int, upto: int) -> Iterator[Span]:
    if after < upto:
        yield Span(after, upto)


def _may_have(wanted: Sequence[Bits]) -> ColumnElement[bool]:
    """As an expression of PostgreSQL, which then need not send the bits."""
    bits = event_blocks.c.bits
    tests = [and_(*(func.get_bit(bits, bit) == 1 for bit in option)) for option in wanted]
    return func.coalesce(or_(*tests), True)


def _is_current() -> ColumnElement[bool]:
    return event_blocks.c.log == select(event_sequence.c.name).scalar_subquery()


class BlockBuilder:
    """Makes the next block, in steps of few rows, from what a connection that need not write reads."""

    def __init__(self) -> None:
        self._reset("", 0)

    def __repr__(self) -> str:
        return f"<BlockBuilder: {self._rows} rows>"

    def _reset(self, log: str, last: int) -> None:
        self._log = log
        self._after = self._last = last
        self._rows = self._bytes = 0
        self._set = set[int]()
        self._words = set[bytes]()
        self._may_have_anything = False
        self.block: Block | None = None
        """What has been made: None until it is full."""

    def begin(self, connection: Connection) -> bool:
        """Begin behind the last block; whether there are enough events for another one, about."""
        log = connection.scalar(select(event_sequence.c.name))
        if log is None:
            return False
        last = connection.scalar(select(func.max(event_blocks.c.last_id)).where(event_blocks.c.log == log)) or 0
        self._reset(log, last)
        sizes = select(events.c.size).where(events.c.id > last).order_by(events.c.id).limit(MOST_ROWS).subquery()
        rows, size = connection.execute(select(func.count(), func.sum(sizes.c.size))).one()
        return bool(rows >= MOST_ROWS or (size or 0) >= MOST_BYTES)

    def step(self, connection: Connection) -> bool:
        """Look at the next rows. True while more are needed; then `block` is full, or the log has no more."""
        query = select(events.c.id, *SEARCHED).where(events.c.id > self._last).order_by(events.c.id).limit(AT_ONCE)
        seen = done = 0
        for id_, *texts in connection.execute(query):
            seen += 1
            try:
                text = fold_case("\0".join(texts)).encode()
            except (TypeError, UnicodeEncodeError):
                # Another program wrote it.
                text, self._may_have_anything = b"", True
            self._add(text)
            self._last = id_
            self._rows += 1
            done += len(text)
            if self._is_full:
                self.block = Block(self._log, self._after, id_, self._packed())
                return False
            if done > _STEP_BYTES:
                return True
        return seen > 0

    @property
    def _is_full(self) -> bool:
        share = max(self._rows / MOST_ROWS, self._bytes / MOST_BYTES)
        return share >= 1 or (share >= 1 / 4 and len(self._set) > BITS * MOST_SET)

    def _add(self, text: bytes) -> None:
        self._bytes += len(text)
        # Each part overlaps the next one, so that no part of a word is cut.
        for start in range(0, len(text), _TEXT_PART):
            new = set(_WORD.findall(text, start, start + _TEXT_PART + _LONG - 1)) - self._words
            if len(self._words) < _MOST_WORDS:
                self._words |= new
            for word in new:
                self._set |= _word_bits(word)

    def _packed(self) -> bytes | None:
        if self._may_have_anything or len(self._set) > BITS * _USELESS:
            return None
        bits = bytearray(BITS // 8)
        for bit in self._set:
            bits[bit >> 3] |= 1 << (bit & 7)
        return bytes(bits)


def store_block(connection: Connection, block: Block) -> None:
    """Store a block, unless another process has stored one for these ids, or the log has another name by now.

    One statement, so that the transaction begins by writing.
    """
    c = event_blocks.c
    # The driver of PostgreSQL sends text without its type.
    values = [cast(bindparam(name, getattr(block, name), c[name].type), c[name].type) for name in Block._fields]
    others = exists().where(c.log == block.log, c.last_id > block.after_id)
    is_same = exists().where(event_sequence.c.name == block.log)
    connection.execute(delete(event_blocks).where(c.log != block.log, is_same))
    connection.execute(insert(event_blocks).from_select(list(Block._fields), select(*values).where(~others, is_same)))
