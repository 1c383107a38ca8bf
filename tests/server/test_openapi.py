"""The parts that the OpenAPI descriptions of all paths share."""

from __future__ import annotations

import jsonschema
import pytest

from tentaculo.model.failure import Failure, Problem
from tentaculo.server.openapi import (
    ALWAYS_POSSIBLE,
    SCHEMAS,
    TOKEN,
    Description,
    document,
    object_of,
    operation,
    query_parameter,
    response,
)
from tentaculo.server.query_parameters import TICKET, Parameter, number_parameter


@pytest.mark.parametrize(
    "failure", [one for one in Failure if one is not Failure.CLIENT_LEFT], ids=lambda one: one.error
)
def test_every_refusal_fits_the_schema(failure: Failure) -> None:
    check = jsonschema.Draft202012Validator(SCHEMAS["Problem"])
    check.validate(Problem(failure, "What happened.").members())
    assert not check.is_valid({**Problem(failure).members(), "error": "other"})


def test_the_failures_of_one_status_share_a_response() -> None:
    two = [Failure.OVERLOADED, Failure.STORE_UNAVAILABLE]
    made = operation("Do it.", {200: response("Done.", {})}, id_="do", failures=two, security=TOKEN)
    responses = made["responses"]
    assert list(responses) == sorted(responses)
    assert set(responses) == {"200", "401", "403", *(str(one.status) for one in ALWAYS_POSSIBLE)}
    (_, words) = responses["503"]["content"]["application/problem+json"]["schema"]["allOf"]
    assert words["properties"]["error"]["enum"] == sorted(one.error for one in two)
    assert "Retry-After" in responses["503"]["headers"]
    assert "X-Request-ID" in responses["200"]["headers"]


def test_a_ticket_is_a_security_scheme_and_no_parameter() -> None:
    known = [TICKET, number_parameter("limit", "How many.", default=1, most=2)]
    made = operation("Do it.", {}, id_="do", parameters=known)
    assert [one["name"] for one in made["parameters"]] == ["limit"]
    assert query_parameter(Parameter("a", "Any.", {"type": "string"}, is_list=True))["schema"]["type"] == "array"


def test_parts_are_joined() -> None:
    parts = [Description({"/a": {}}, {"A": object_of({"x": {}}, optional=["x"])}), Description({"/b": {}}, {})]
    made = document("1.2", parts)
    assert list(made["paths"]) == ["/a", "/b"]
    assert made["components"]["schemas"]["A"]["required"] == []
    assert made["info"]["version"] == "1.2"
