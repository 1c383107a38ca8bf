"""Reasons that are read from their English text."""

from __future__ import annotations

import time

import pytest

from tentaculo.model.reason import TEXTS, Reason, because
from tentaculo.web.reason_parser import parse
from tentaculo.web.reasons import plain, said
from tentaculo.web.wording import ENGLISH

REFUSED = because("connection_refused")
REASONS = [
    because("took", what=because("answered", status=200), milliseconds=4),
    because(
        "faulty",
        what=because("took", what=because("answered", status=200), milliseconds=4),
        faults=[
            because("calls_itself", word="degraded"),
            because("slower_than", seconds=0.5),
            "memory_mb is 900, more than 800",
        ],
    ),
    because("part_failed", failed=3, probes=5, what=REFUSED),
    because("unconfirmed_after", before=REFUSED, what=because("answered", status=200), count=1, needed=2, health="up"),
    because(
        "before_restart", what=because("failed_at", what=because("answered", status=404), paths="/health and /healthz")
    ),
    because("requests_failed_and", what=because("requests_failed", failed=6, requests=9, seconds=30.0), probes=REFUSED),
    because("several", parts=[because("failed_at", what=REFUSED, paths="/a"), because("others_unknown")]),
    because("certificate_expires", left="3 days"),
    because("one_down", total=3, what=because("answered_but", status=503, what="database is locked")),
]


@pytest.mark.parametrize("reason", REASONS, ids=str)
def test_a_reason_is_read_from_its_text(reason: Reason) -> None:
    found = parse(str(reason))
    assert found is not None
    assert found.code == reason.code
    for name, value in reason.values.items():
        read = found.values[name]
        parts = value if isinstance(value, list) else [value]
        for part, got in zip(parts, read if isinstance(value, list) else [read], strict=True):
            assert str(got) == (f"{part:g}" if isinstance(part, float) else str(part))
            assert (got.code if isinstance(got, Reason) else "") == (part.code if isinstance(part, Reason) else "")


@pytest.mark.parametrize("code", [code for code, text in TEXTS.items() if "{" not in text])
def test_every_fixed_text_is_read(code: str) -> None:
    found = parse(TEXTS[code])
    assert found is not None
    assert found.code == code


@pytest.mark.parametrize(
    "text", ["", "a new disk", "moving; house", "x" * 5000, "connection refused!", "the disk is full"]
)
def test_any_other_text_stays_as_it_came(text: str) -> None:
    assert parse(text) is None
    assert plain(said(text, None, ENGLISH, 100)) in (text, "x" * 99 + "…")


@pytest.mark.parametrize("reason", REASONS, ids=str)
def test_the_english_text_is_the_same(reason: Reason) -> None:
    assert plain(said(str(reason), None, ENGLISH, 300)) == str(reason)
    assert plain(said(str(reason), reason, ENGLISH, 300)) == str(reason)


@pytest.mark.parametrize(
    "unit", ["answered 200, but ", ", but ", "; ", " in 4 ms", "(before the restart) ", " at /a", "1 failure: "]
)
def test_a_hostile_text_costs_little(unit: str) -> None:
    begun = time.process_time()
    for length in range(1, 400 // len(unit)):
        parse.__wrapped__(unit * length)
    assert (time.process_time() - begun) / (400 // len(unit)) < 0.05
