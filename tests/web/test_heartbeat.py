"""Where services call: nothing, or a small JSON object."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from aiohttp import ClientSession, web

from tentaculo.server import templating
from tentaculo.web import heartbeat
from tests.support.server import serving_application

TOKEN = "right-token"
JSON = {"Content-Type": "application/json"}

Heard = list[tuple[str, bytes]]


@pytest.fixture
def heard() -> Heard:
    return []


@pytest.fixture
async def client(heard: Heard) -> AsyncIterator[ClientSession]:
    app = web.Application()
    templating.setup(app)
    names = {"cron": "cron", "night-job": "cron"}
    app.add_routes(heartbeat.routes(names, lambda service, said: heard.append((service, said))))
    headers = {"X-VX11-Token": TOKEN}
    async with (
        serving_application(app, token=TOKEN) as served,
        ClientSession(f"http://{served.host}:{served.port}", headers=headers) as session,
    ):
        yield session


@pytest.mark.parametrize("name", ["cron", "night-job"])
@pytest.mark.parametrize(
    "said", [b"", b'{"status": "ok"}', b'{"status": "warn", "message": "late", "queue": {"a": 1}}']
)
async def test_it_is_taken(client: ClientSession, heard: Heard, name: str, said: bytes) -> None:
    async with client.post(f"/vx11/heartbeat/{name}", data=said, headers=JSON) as answer:
        assert answer.status == 200
        assert await answer.json() == {"status": "received", "service": "cron"}
    assert heard == [("cron", said)]


@pytest.mark.parametrize(
    ("said", "media_type", "status"),
    [
        (b"[]", "application/json", 400),
        (b'"ok"', "application/json", 400),
        (b"{", "application/json", 400),
        (b'{"status": 7}', "application/json", 400),
        (b'{"message": ["x"]}', "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b"[" * 3000, "application/json", 400),
        (b'{"message": "' + b"x" * 5000 + b'"}', "application/json", 413),
        (b'{"message": "' + b"x" * 900_000 + b'"}', "application/json", 413),
        (b'{"status": "ok"}', "text/plain", 415),
        (b"status=ok", "application/x-www-form-urlencoded", 415),
    ],
)
async def test_anything_else_is_refused(
    client: ClientSession, heard: Heard, said: bytes, media_type: str, status: int
) -> None:
    async with client.post("/vx11/heartbeat/cron", data=said, headers={"Content-Type": media_type}) as answer:
        assert (answer.status, answer.content_type) == (status, "application/problem+json")
    assert heard == []


async def test_only_who_has_the_token_and_only_by_post(client: ClientSession, heard: Heard) -> None:
    async with client.post("/vx11/heartbeat/cron", headers={"X-VX11-Token": "wrong"}) as answer:
        assert answer.status == 403
    async with client.get("/vx11/heartbeat/cron") as answer:
        assert answer.status == 405
    async with client.post("/vx11/heartbeat/madre") as answer:
        assert answer.status == 404
    assert heard == []
