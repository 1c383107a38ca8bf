"""Event stream, chat, upload, wait."""

from __future__ import annotations

from hashlib import sha256
from io import BytesIO

from aiohttp import FormData, WSMsgType

from tentaculo.demo.catalogue import HERMES, MADRE, MCP, OPERATOR
from tests.demo.conftest import Start


async def test_the_stream_sends_numbered_events_and_ends_when_told_how_many(start: Start) -> None:
    mcp = await start(MCP)
    async with mcp.get("/mcp/stream?count=3&every=0") as response:
        assert response.content_type == "text/event-stream"
        lines = (await response.text()).splitlines()
    assert [line for line in lines if line.startswith("id:")] == ["id: 1", "id: 2", "id: 3"]


async def test_the_stream_goes_on_where_the_client_left_off(start: Start) -> None:
    mcp = await start(MCP)
    async with mcp.get("/mcp/stream?count=1&every=0", headers={"Last-Event-ID": "41"}) as response:
        assert (await response.text()).startswith("id: 42\n")


async def test_the_first_event_comes_at_once_and_leaving_is_harmless(start: Start) -> None:
    mcp = await start(MCP)
    async with mcp.get("/mcp/stream?every=60") as response:
        assert await response.content.readline() == b"id: 1\n"
    async with mcp.get("/mcp/tools") as response:
        assert response.status == 200


async def test_bad_numbers_are_refused(start: Start) -> None:
    mcp = await start(MCP)
    for query in ("every=soon", "every=nan", "every=-1", "count=9999999"):
        async with mcp.get(f"/mcp/stream?{query}") as response:
            assert response.status == 400


async def test_the_chat_says_back_text_and_bytes(start: Start) -> None:
    operator = await start(OPERATOR)
    async with operator.ws_connect("/ws/s-1") as socket:
        await socket.send_str("hola")
        answer = await socket.receive_json()
        assert (answer["session_id"], answer["echo"]) == ("s-1", "hola")
        await socket.send_bytes(b"\0\1")
        message = await socket.receive()
        assert (message.type, message.data) == (WSMsgType.BINARY, b"\0\1")


async def test_an_upload_is_measured_part_by_part(start: Start) -> None:
    hermes = await start(HERMES)
    sound = bytes(range(256)) * 4096
    form = FormData()
    form.add_field("left", sound, filename="left.wav", content_type="audio/wav")
    form.add_field("right", b"short", filename="right.wav")
    async with hermes.post("/waveform", data=form) as response:
        assert response.status == 201
        files = (await response.json())["files"]
    assert [(file["filename"], file["bytes"]) for file in files] == [("left.wav", len(sound)), ("right.wav", 5)]
    assert files[0]["sha256"] == sha256(sound).hexdigest()


async def test_a_plain_body_is_an_upload_too_and_may_exceed_a_megabyte(start: Start) -> None:
    hermes = await start(HERMES)
    async with hermes.post("/spectrogram", data=BytesIO(b"x" * 3_000_000)) as response:
        assert (await response.json())["files"][0]["bytes"] == 3_000_000


async def test_a_broken_multipart_body_is_refused(start: Start) -> None:
    hermes = await start(HERMES)
    headers = {"Content-Type": "multipart/form-data"}
    async with hermes.post("/waveform", data=b"nothing", headers=headers) as response:
        assert response.status == 400


async def test_a_wait_takes_as_long_as_it_is_told(start: Start) -> None:
    madre = await start(MADRE)
    async with madre.get("/madre/daughter/d-1/wait?seconds=0.1") as response:
        answer = await response.json()
    assert (answer["daughter"], answer["waited"]) == ("d-1", 0.1)
