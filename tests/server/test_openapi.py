"""The parts that the OpenAPI descriptions of all paths share."""

from __future__ import annotations

import jsonschema
import pytest
from aiohttp import web

from tentaculo.config.accepted_tokens import AuthSettings
from tentaculo.model import access
from tentaculo.model.failure import Failure, Problem
from tentaculo.server.native_routes import NativeRoute
from tentaculo.server.openapi import (
    ALWAYS_POSSIBLE,
    SCHEMAS,
    TOKEN,
    TOKEN_OR_TICKET,
    Operation,
    document,
    object_of,
    operation_object,
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
    done = Operation("do", "Do it.", {200: response("Done.", {})}, failures=two)
    made = operation_object(done, security=TOKEN, may_refuse_tokens=True)
    responses = made["responses"]
    assert list(responses) == sorted(responses)
    assert set(responses) == {"200", "401", "403", *(str(one.status) for one in ALWAYS_POSSIBLE)}
    (_, words) = responses["503"]["content"]["application/problem+json"]["schema"]["allOf"]
    assert words["properties"]["error"]["enum"] == sorted(one.error for one in two)
    assert "Retry-After" in responses["503"]["headers"]
    assert "X-Request-ID" in responses["200"]["headers"]


def test_a_ticket_is_a_security_scheme_and_no_parameter() -> None:
    known = [TICKET, number_parameter("limit", "How many.", default=1, most=2)]
    made = operation_object(Operation("do", "Do it.", {}, parameters=known), security=(), may_refuse_tokens=False)
    assert [one["name"] for one in made["parameters"]] == ["limit"]
    assert query_parameter(Parameter("a", "Any.", {"type": "string"}, is_list=True))["schema"]["type"] == "array"


async def handle(request: web.Request) -> web.Response:
    return web.Response()


def test_the_document_is_that_of_the_routes() -> None:
    schema = {"A": object_of({"x": {}}, optional=["x"])}
    routes = [
        NativeRoute("GET", "/a", handle, access.STATUS, lambda: Operation("a", "A.", {}, schemas=schema)),
        NativeRoute("DELETE", "/a", handle, access.STATUS, lambda: Operation("b", "B.", {})),
        NativeRoute("GET", "/open", handle, access.STATUS_PAGES, lambda: Operation("c", "C.", {})),
        NativeRoute("GET", "/events/stream", handle, access.EVENTS_READ, lambda: Operation("d", "D.", {})),
        NativeRoute("GET", "/not-described", handle, access.STATUS, None),
    ]
    made = document("1.2", routes, AuthSettings())
    assert {path: [*item] for path, item in made["paths"].items()} == {
        "/a": ["get", "delete"],
        "/open": ["get"],
        "/events/stream": ["get"],
    }
    assert made["components"]["schemas"]["A"]["required"] == []
    assert made["info"]["version"] == "1.2"
    assert made["paths"]["/a"]["get"]["security"] == [{name: []} for name in TOKEN]
    assert made["paths"]["/events/stream"]["get"]["security"] == [{name: []} for name in TOKEN_OR_TICKET]
    is_open = made["paths"]["/open"]["get"]
    assert (is_open["security"], "401" in is_open["responses"]) == ([], True)
    free = document("1.2", routes, AuthSettings(enabled=False))["paths"]["/a"]["get"]
    assert (free["security"], "401" in free["responses"]) == ([], False)
