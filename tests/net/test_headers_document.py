"""docs/headers.md says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tentaculo.net import header_fields
from tentaculo.net.header_fields import ResponseHeaders
from tentaculo.net.request_headers import RequestHeaders
from tentaculo.proxy import address_mapping

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "headers.md").read_text(encoding="utf-8")
_, REQUEST, RESPONSE, _ = TEXT.split("\n## ")


def table(section: str) -> dict[bytes, str]:
    """Each header of a table, in lower case, and whether it passes."""
    rows = re.findall(r"(?m)^\| `([^`]+)` \| (\w+) \|", section)
    assert len(rows) == section.count("\n| `")
    return {name.lower().encode(): passes for name, passes in rows}


def test_every_special_header_is_in_its_table_and_no_other() -> None:
    assert set(table(REQUEST)) == header_fields.REQUEST_NAMES
    assert set(table(RESPONSE)) == header_fields.RESPONSE_NAMES


@pytest.mark.parametrize(("name", "passes"), table(REQUEST).items())
def test_what_a_request_keeps(name: bytes, passes: str) -> None:
    kept = RequestHeaders([(name.title(), b"7")]).lines
    assert passes in ("yes", "mapped", "no", "rewritten")
    assert kept == ([(name, name.title(), b"7")] if passes in ("yes", "mapped") else [])


@pytest.mark.parametrize(("name", "passes"), table(RESPONSE).items())
def test_what_an_answer_keeps(name: bytes, passes: str) -> None:
    line = name + b": 7\r\n"
    assert passes in ("yes", "mapped", "no", "rewritten")
    assert ResponseHeaders([(line, name)]).lines == ([line] if passes in ("yes", "mapped") else [])


def test_both_directions_drop_the_same_hop_by_hop_headers() -> None:
    hop = (header_fields.Kind.DROPPED, header_fields.Kind.REMADE)
    there, back = (
        {field.name for field in fields if field.kind in hop}
        for fields in (header_fields.REQUEST_FIELDS, header_fields.RESPONSE_FIELDS)
    )
    one_way = ({"HTTP2-Settings"}, {"Alt-Svc", "Proxy-Support"})
    assert (there - back, back - there) == one_way, "these have one direction only"


def test_each_mapped_header_has_its_mapping() -> None:
    mapped = {f.name.lower().encode() for f in header_fields.REQUEST_FIELDS if f.kind is header_fields.Kind.ADDRESS}
    assert set(address_mapping.REQUEST_FIELDS) == mapped
    assert set(address_mapping.RESPONSE_FIELDS) == header_fields.RESPONSE_ADDRESSES
