"""The declared parameters of native paths, and what is checked with them."""

from __future__ import annotations

import pytest
from multidict import MultiDict

from tentaculo.model.failure import Failure, Problem
from tentaculo.server.query_parameters import Parameter, check_names, number_parameter, read_number

LIMIT = number_parameter("limit", "How many.", default=7, most=100)
KNOWN = (LIMIT, Parameter("type", "Which.", {"type": "string"}, is_list=True))


def test_a_known_query_passes() -> None:
    check_names(MultiDict([("type", "a"), ("type", "b"), ("limit", "")]), KNOWN)
    check_names(MultiDict(), ())


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ([("tpye", "a")], '"tpye" is no parameter of this path; it takes limit, type.'),
        ([("limit", "1"), ("limit", "2")], "limit may be there only once."),
        ([("", "1")], '"" is no parameter of this path; it takes limit, type.'),
        ([("a\r\n\x1b\u202e" * 500, "1")], "is no parameter of this path; it takes limit, type."),
    ],
)
def test_a_refusal_names_the_parameter(query: list[tuple[str, str]], detail: str) -> None:
    with pytest.raises(Problem) as refused:
        check_names(MultiDict(query), KNOWN)
    assert refused.value.failure is Failure.BAD_REQUEST
    assert refused.value.detail is not None
    assert refused.value.detail.endswith(detail)
    assert refused.value.detail.isprintable()
    assert len(refused.value.detail) < 120


def test_a_number_is_read_with_its_bounds() -> None:
    assert [read_number({"limit": text}, LIMIT) for text in ("1", "100", "007", "")] == [1, 100, 7, 7]
    assert read_number({}, LIMIT) == 7
    for text in ("0", "101", "-1", "1.0", " 1", "\u0661", "1" * 5000):
        with pytest.raises(Problem, match=r"limit must be a number from 1 to 100\."):
            read_number({"limit": text}, LIMIT)
