"""The `Date` of a response as a number."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentaculo.model.clock import parse_http_date


@given(st.integers(-30_000_000_000, 250_000_000_000))
def test_every_date_that_is_written_is_read(seconds: int) -> None:
    whole = datetime.fromtimestamp(seconds, UTC)
    assert parse_http_date(format_datetime(whole, usegmt=True)) == whole.timestamp() * 1000


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 06 Nov 1994 08:49:37 +0000",
        "Sun, 6 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun, 31 Feb 2026 08:49:37 GMT",
        "Sun, 06 Nov 0000 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:60 GMT",
        "Sun, 06 Xyz 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT",
    ],
)
def test_every_other_text_is_none(text: str) -> None:
    assert parse_http_date(text) is None


@given(st.text())
def test_no_text_raises(text: str) -> None:
    assert parse_http_date(text) is None or len(text) == 29
