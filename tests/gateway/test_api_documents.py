"""`/tentaculo/openapi.json` and `/tentaculo/asyncapi.json` of a whole gateway."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp import ClientSession

from tentaculo.config.schema import Config
from tentaculo.gateway.api_documents import asyncapi
from tests.conftest import TOKEN, Live, Start
from tests.support.native_routes import native_routes, openapi_document

OPENAPI, ASYNCAPI = "/tentaculo/openapi.json", "/tentaculo/asyncapi.json"
NOT_DESCRIBED = {
    # The two documents themselves, and what other programs have read since 7.0. Pages are for people.
    *("/", OPENAPI, ASYNCAPI, "/health", "/livez", "/readyz", "/metrics"),
    *("/vx11/status", "/vx11/overview", "/vx11/circuit-breaker/status"),
    # Not described yet.
    *("/vx11/history/{service}", "/vx11/maintenance", "/vx11/maintenance/{id}", "/tentaculo/alerts"),
    *("/vx11/incidents", "/vx11/incidents/{id}"),
    *("/vx11/incidents/{id}/notes", "/vx11/incidents/{id}/acknowledgements"),
    # The same as /events, and a stream that the other document has.
    *("/api/events", "/ws"),
}


@pytest.fixture
async def live(start: Start) -> Live:
    """A gateway with a service, whose database is away."""
    return await start({"madre": {"url": "http://127.0.0.1:9", "routes": [{"prefix": "/secret-prefix"}]}})


def values(value: Any) -> Iterator[tuple[str, Any]]:
    """Every member of every object in it."""
    if isinstance(value, dict):
        yield from value.items()
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from values(inner)


@pytest.mark.parametrize("path", [OPENAPI, ASYNCAPI])
async def test_a_document_needs_no_token_and_is_sent_once(live: Live, path: str) -> None:
    async with ClientSession(f"http://127.0.0.1:{live.port}") as session:
        async with session.get(path) as response:
            assert (response.status, response.content_type) == (200, "application/json")
            assert response.headers["Cache-Control"] == "no-cache"
            tag, text = response.headers["ETag"], await response.text()
            document = json.loads(text)
        assert document["info"]["title"] == "Tentáculo Link"
        assert {"madre", "secret-prefix", TOKEN, "sqlite", str(live.port)} & set(text.split('"')) == set()
        for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
            async with session.get(path, headers={"If-None-Match": known}) as response:
                assert (response.status, await response.read()) == (304, b"")
                assert response.headers["ETag"] == tag
        for other in ('"other"', "nothing", '"', "", "\u00e9" * 50):
            async with session.get(path, headers={"If-None-Match": other}) as response:
                assert (response.status, await response.text()) == (200, text)
        async with session.head(path) as response:
            assert (response.status, response.headers["ETag"], await response.read()) == (200, tag, b"")
            assert int(response.headers["Content-Length"]) == len(text.encode())
        async with session.post(path) as response:
            assert (response.status, response.headers["Allow"]) == (405, "GET,HEAD")


@pytest.mark.parametrize("make", [openapi_document, asyncapi])
def test_every_reference_leads_to_something(make: Any) -> None:
    document = make(Config.of({}))
    found = [value for name, value in values(document) if name == "$ref"]
    assert len(found) > 20
    for one in found:
        assert one.startswith("#/")
        target = document
        for part in one[2:].split("/"):
            target = target[part]


def test_every_native_path_is_described_or_known_not_to_be() -> None:
    pages = {"/status", "/status/actions", "/status/events", "/status/incidents", "/status/incidents/{id}"}
    pages |= {"/status/services/{service}", "/status/sign-in", "/status/sign-out"}
    left_out = {route.path for route in native_routes() if route.describe is None}
    assert left_out - pages - NOT_DESCRIBED == set(), "give the route a function that describes it"
    assert (pages | NOT_DESCRIBED) - left_out == set()


def test_the_description_follows_the_configuration() -> None:
    strict = Config.of({"auth": {"open_status": False}})
    free = Config.of({"auth": {"enabled": False}, "limits": {"events_batch": 7}})
    for path in openapi_document(strict)["paths"].values():
        for operation in path.values():
            assert {"token": []} in operation["security"]
            assert {"401", "403", "400", "500", "503"} <= set(operation["responses"])
    for path in openapi_document(free)["paths"].values():
        for operation in path.values():
            assert operation["security"] == []
            assert "401" not in operation["responses"]
    badge = openapi_document(Config.of({}))["paths"]["/status/badge.svg"]["get"]
    assert badge["security"] == [], "it is as open as the pages"
    assert "403" in badge["responses"], "a wrong token is refused there too"
    body = openapi_document(free)["paths"]["/events/ingest"]["post"]["requestBody"]["content"]
    assert body["application/cloudevents-batch+json"]["schema"]["maxItems"] == 7
    servers = asyncapi(strict)["servers"]
    assert all("security" in one for one in servers.values())
    opened = asyncapi(Config.of({"auth": {"open_websocket": True}}))["servers"]
    assert ["security" in one for one in opened.values()] == [False, True]
    assert not any("security" in one for one in asyncapi(free)["servers"].values())


def test_operations_have_names_of_their_own() -> None:
    names = [
        operation["operationId"]
        for path in openapi_document(Config.of({}))["paths"].values()
        for operation in path.values()
    ]
    assert len(names) == len(set(names)) > 5
