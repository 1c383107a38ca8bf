"""The AsyncAPI description of `/ws` and `/events/stream`, compared with the code and with frames from real sockets."""

from __future__ import annotations

import ast
import inspect
from typing import Any

import pytest

from tentaculo.config.schema import Config
from tentaculo.events import query, websocket
from tentaculo.events.schemas import CANONICAL
from tentaculo.gateway.api_documents import asyncapi
from tests.events.conftest import DEADLINE, NAME, Gateway
from tests.support.api_messages import OWN_MESSAGE, Messages
from tests.support.event_clients import event_stream

DOCUMENT = asyncapi(Config.of({}))
SAMPLES: dict[str, Any] = {
    "STRING": "x",
    "INTEGER": 1_700_000_000_000,
    "NUMBER": 0.5,
    "LIST": [],
    "OBJECT": {},
}


def fields(type_: str) -> dict[str, Any]:
    return {name: SAMPLES[kind.name] for name, kind in CANONICAL[type_].fields.items()}


def test_it_has_the_form_of_asyncapi_3() -> None:
    assert DOCUMENT["asyncapi"] == "3.0.0"
    assert {"title", "version"} <= set(DOCUMENT["info"])
    for channel in DOCUMENT["channels"].values():
        assert channel["address"].startswith("/")
        for name, one in channel["messages"].items():
            assert one == {"$ref": f"#/components/messages/{name}"}
            assert DOCUMENT["components"]["messages"][name]["payload"]
    used = set()
    for operation in DOCUMENT["operations"].values():
        assert operation["action"] in ("send", "receive")
        channel = operation["channel"]["$ref"]
        for one in operation["messages"]:
            assert one["$ref"].startswith(f"{channel}/messages/")
            used.add(one["$ref"].rpartition("/")[2])
    assert used == set(DOCUMENT["components"]["messages"])


def test_every_parameter_of_the_websocket_is_described() -> None:
    described = DOCUMENT["channels"]["socket"]["bindings"]["ws"]["query"]["properties"]
    # The handler ignores what it does not know, so the names that it reads are found in its text.
    readers = {"find_position", "values", "query.get"}
    read = {
        call.args[-1 if ast.unparse(call.func) != "query.get" else 0].value  # type: ignore[attr-defined]
        for call in ast.walk(ast.parse(inspect.getsource(websocket)))
        if isinstance(call, ast.Call) and ast.unparse(call.func) in readers
    }
    assert readers - {"query.get"} <= set(vars(query))
    assert read == {"since", "types", "sources", "client_id"}
    assert read | {"channel", "ticket"} == set(described)


def test_every_canonical_event_has_a_message_in_each_direction() -> None:
    sent, received = Messages("sendMessages"), Messages("receiveMessages")
    for type_ in CANONICAL:
        name = "".join(part.capitalize() for part in type_.split("."))
        event = {"type": type_, "source": "s", "event_id": 5, **fields(type_)}
        assert sent.kinds(event) == {f"{name}Broadcast"}
        assert received.kinds({"type": type_, **fields(type_)}) == {name}
        for field in fields(type_):
            less = {key: value for key, value in event.items() if key != field}
            assert sent.kinds(less) == set()
            assert received.kinds(less) == ({name} if field == "timestamp" else set())


async def test_the_frames_of_the_websocket_fit(gateway: Gateway) -> None:
    messages, kinds, errors = Messages("sendMessages"), set[str](), set[str]()
    listener = await gateway.session.ws_connect(gateway.ws_url)
    sender = await gateway.session.ws_connect(gateway.ws_url + "?since=000000000000-4&client_id=x")

    async def kind_of(client: Any) -> str:
        frame = await client.receive_json(timeout=DEADLINE)
        (kind,) = messages.kinds(frame)
        kinds.add(kind)
        errors.add(frame.get("error", ""))
        return str(kind)

    assert [await kind_of(client) for client in (listener, sender, sender)] == ["Connected", "Connected", "SocketReset"]
    for faulty in ("{", "[]", '{"a":"' + "x" * 100_000 + '"}'):
        await sender.send_str(faulty)
        assert await kind_of(sender) == "SocketError"
    await sender.send_bytes(b"{}")
    assert await kind_of(sender) == "SocketError"
    await sender.send_json({"type": "system.alert", "alert_id": 7})
    await sender.receive(timeout=DEADLINE)
    assert await kind_of(sender) == "SocketError"
    for type_ in CANONICAL:
        await sender.send_json({"type": type_, **fields(type_), "channel": "control", "more": None})
        assert "Broadcast" in await kind_of(listener)
    for payload in (
        {},
        {"timestamp": "noon", "channel": "control"},
        {"type": 1, "source": 2, "event_id": "x", "id": 3},
    ):
        await gateway.ingest({"source": "s", "type": "t", "payload": payload, "broadcast": True})
        assert await kind_of(listener) == "Broadcast"
    gateway.ledger.is_lost = True
    await listener.send_json({"type": "system.alert", **fields("system.alert")})
    await listener.receive(timeout=DEADLINE)
    assert await kind_of(listener) == "SocketError"
    assert kinds == messages.names - OWN_MESSAGE
    # A token that may not send is tested over the whole gateway (tests/gateway/test_tokens.py).
    assert errors - {""} == set(websocket.ERRORS) - {"forbidden"}


@pytest.mark.parametrize("since", ["0", "ffffffffffff-1"])
async def test_the_frames_of_the_stream_fit(gateway: Gateway, since: str) -> None:
    messages, first = Messages("sendFrames"), "StreamStart" if since == "0" else "StreamReset"
    event = {"source": "s", "type": "end", "payload": {"severity": "L1"}, "key": "k", "metadata": {"a": 1}}
    async with event_stream(gateway.session, gateway.url, f"?since={since}") as listener:
        assert listener.first is not None
        assert messages.kinds(listener.first.data) == {first}
        await gateway.ingest(event)
        await gateway.ingest({"source": "s", "type": "system.alert", "payload": fields("system.alert")})
        assert [messages.kinds(frame.data) for frame in await listener.events(2)] == [{"StoredEvent"}] * 2
        await gateway.hub.close()
        (last,) = await listener.rest()
        assert messages.kinds(last.data) == {"StreamEnd"}
    assert NAME in listener.last_id
