"""The OpenAPI description of the events' paths has everything that the code declares."""

from __future__ import annotations

import inspect
from typing import Any

import jsonschema
import pytest
from aiohttp import ClientSession

from tentaculo.events import correlations, history, ingest, stream
from tentaculo.events.schemas import CANONICAL
from tests.events.conftest import Gateway
from tests.support.native_routes import openapi_document

DOCUMENT = openapi_document()
PATHS = DOCUMENT["paths"]


def validator(schema: dict[str, Any]) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator({**schema, "components": DOCUMENT["components"]})


@pytest.mark.parametrize(
    ("path", "module", "others"),
    [
        ("/events", history, []),
        ("/events/stream", stream, ["Last-Event-ID"]),
        ("/debug/events/correlations", correlations, []),
    ],
)
def test_every_parameter_is_described(path: str, module: Any, others: list[str]) -> None:
    # The ticket is a security scheme. A handler refuses a parameter that its module does not list.
    expected = [one.name for one in module.PARAMETERS if one.name != "ticket"] + others
    described = PATHS[path]["get"]["parameters"]
    assert [one["name"] for one in described] == expected
    assert all(one["description"] for one in described)
    assert "check_names(" in inspect.getsource(module)


def test_every_media_type_of_a_body_is_described() -> None:
    described = set(PATHS["/events/ingest"]["post"]["requestBody"]["content"])
    assert set(ingest._FORMS) | {"application/json"} == described


@pytest.mark.parametrize("schema", CANONICAL.values(), ids=lambda schema: schema.type)
def test_every_canonical_event_is_described(schema: Any) -> None:
    samples = {"string": "x", "integer": 1_700_000_000_000, "number": 0.5, "array": [], "object": {}}
    name = "".join(part.capitalize() for part in schema.type.split("."))
    properties = DOCUMENT["components"]["schemas"][name]["properties"]
    assert list(properties) == list(schema.fields)
    payload = {field: samples[properties[field]["type"]] for field in schema.fields}
    event = {"source": "madre", "type": schema.type, "payload": payload}
    check = validator({"$ref": "#/components/schemas/IngestEvent"})
    assert check.is_valid(event)
    for field, kind in schema.fields.items():
        less = {**event, "payload": {one: value for one, value in payload.items() if one != field}}
        assert check.is_valid(less) is (field == "timestamp"), "a timestamp is added"
        other = {**event, "payload": {**payload, field: True}}
        assert check.is_valid(other) is kind.accepts(True) is False


async def test_a_response_of_each_kind_fits(gateway: Gateway) -> None:
    alert = {"alert_id": "a", "severity": "L1", "message": "m"}
    events: list[Any] = [
        {"source": "s", "type": "t", "payload": {"id": "job-1"}, "key": "k", "broadcast": True},
        {"source": "s", "type": "t", "payload": {"parent_id": "job-1"}, "metadata": {"severity": "x"}},
        {"source": "s", "type": "system.alert", "payload": alert},
        {"source": "s", "type": "t", "payload": []},
    ]
    session, seen = gateway.session, set[tuple[str, int]]()

    async def check(method: str, path: str, **options: Any) -> None:
        operation = PATHS[path.partition("?")[0]][method]
        async with ClientSession.request(session, method, gateway.url + path, **options) as response:
            described = operation["responses"][str(response.status)]["content"][response.content_type]
            validator(described["schema"]).validate(await response.json(content_type=None))
            seen.add((path.partition("?")[0], response.status))

    for body in (events[0], events, events[:3], [], events[3], "no event"):
        await check("post", "/events/ingest", json=body)
    await check("post", "/events/ingest", data=b"{", headers={"Content-Type": "application/json"})
    await check("post", "/events/ingest", data=b"x" * 200_000, headers={"Content-Type": "application/json"})
    await check("post", "/events/ingest", data=b"x")
    for path in (
        "/events",
        "/events?order=oldest&limit=1",
        "/events?limit=0",
        "/debug/events/cardinality",
        "/tentaculo/clocks",
    ):
        await check("get", path)
    for path in ("/debug/events/correlations?hours=24", "/debug/events/correlations?hours=x", "/events/stream?x="):
        await check("get", path)
    gateway.ledger.is_lost = True
    await check("get", "/events")
    await check("post", "/events/ingest", json=events[0])
    statuses = {status for path, status in seen if path == "/events/ingest"}
    assert statuses == {200, 201, 207, 400, 413, 415, 422, 503}
