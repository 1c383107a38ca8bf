"""docs/headers.md says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tentaculo.net import request_headers, response_headers
from tentaculo.net.request_headers import RequestHeaders
from tentaculo.net.response_headers import ResponseHeaders

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "headers.md").read_text(encoding="utf-8")
_, REQUEST, RESPONSE = TEXT.split("\n## ")


def table(section: str) -> dict[bytes, str]:
    """Each header of a table, in lower case, and whether it passes."""
    rows = re.findall(r"(?m)^\| `([^`]+)` \| (\w+) \|", section)
    assert len(rows) == section.count("\n| `")
    return {name.lower().encode(): passes for name, passes in rows}


def test_every_special_header_is_in_its_table_and_no_other() -> None:
    assert set(table(REQUEST)) == request_headers._REQUEST_SPECIAL
    assert set(table(RESPONSE)) == response_headers.RESPONSE_SPECIAL


@pytest.mark.parametrize(("name", "passes"), table(REQUEST).items())
def test_what_a_request_keeps(name: bytes, passes: str) -> None:
    kept = RequestHeaders([(name.title(), b"7")]).lines
    assert passes in ("yes", "no", "rewritten")
    assert kept == ([(name, name.title(), b"7")] if passes == "yes" else [])


@pytest.mark.parametrize(("name", "passes"), table(RESPONSE).items())
def test_what_an_answer_keeps(name: bytes, passes: str) -> None:
    line = name + b": 7\r\n"
    assert passes in ("yes", "no", "rewritten")
    assert ResponseHeaders([(line, name)]).lines == ([line] if passes == "yes" else [])


def test_what_is_for_one_hop_is_never_kept() -> None:
    for section in (REQUEST, RESPONSE):
        assert all(table(section)[name] != "yes" for name in response_headers.HOP_BY_HOP)
