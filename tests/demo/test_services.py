"""How a service behaves: faults, token, ports."""

from __future__ import annotations

import socket
from dataclasses import replace
from hashlib import sha256
from io import BytesIO

import pytest
from aiohttp import ClientConnectorError, ClientSession, FormData, WSMsgType

from tentaculo.demo.catalogue import HERMES, MADRE, MANIFESTATOR, MCP, OPERATOR, SPAWNER
from tentaculo.demo.services import DemoFault, DemoService, DemoServices, Ports, PortTakenError, Service, chance
from tests.demo.conftest import Start
from tests.support.wire import dial

FAST = replace(MADRE, latency=0.0)


def test_chance_depends_on_its_parts_only() -> None:
    assert chance("a", 1) == chance("a", 1)
    numbers = [chance("a", n) for n in range(1000)]
    assert all(0 <= number < 1 for number in numbers)
    assert 0.4 < sum(numbers) / 1000 < 0.6


def test_a_fault_comes_once_in_each_period_and_lasts_as_long_as_it_says() -> None:
    fault = DemoFault(every=120, lasts=12, status=500)
    begins = set()
    for period in range(50):
        active = [second for second in range(120) if fault.is_active(period * 120 + second, "seed")]
        assert len(active) in (11, 12, 13)
        assert active == list(range(active[0], active[0] + len(active)))
        assert active[0] >= 40
        begins.add(active[0])
    assert len(begins) > 10


def test_the_seed_decides_when_a_fault_comes() -> None:
    fault = DemoFault(every=120, lasts=12)

    def troubled(seed: str) -> list[int]:
        return [second for second in range(120) if fault.is_active(second, seed)]

    assert troubled("a") == troubled("a")
    assert troubled("a") != troubled("b")


async def test_in_trouble_a_service_answers_its_fault_and_afterwards_again(start: Start) -> None:
    now = 0.0
    blueprint = replace(FAST, fault=DemoFault(every=30, lasts=20, status=500))
    madre = await start(blueprint, clock=lambda: now)
    statuses = {}
    for moment in (5.0, 15.0, 35.0):
        now = moment
        async with madre.get("/tasks") as response:
            statuses[moment] = response.status
    assert statuses == {5.0: 200, 15.0: 500, 35.0: 200}


async def test_the_planned_faults_of_the_fleet() -> None:
    assert HERMES.fault is not None
    assert HERMES.fault.status == 500
    assert SPAWNER.fault is not None
    assert SPAWNER.fault.delay > 1


async def test_a_service_wants_its_token_everywhere_but_at_its_health(start: Start) -> None:
    for token, expected in (("", 401), ("wrong", 401), ("the-fleet's", 200)):
        madre = await start(FAST, token=token)
        async with madre.get("/tasks") as response:
            assert response.status == expected
        async with madre.get("/health") as response:
            assert response.status == 200
            assert await response.json() == {"status": "ok", "module": "madre", "version": "7.0"}


async def test_a_token_that_is_no_text_is_a_wrong_one() -> None:
    madre = Service(FAST, token="the-fleet's", seed="s")
    port = await madre.start("127.0.0.1", Ports.FREE)
    try:
        async with dial(port) as wire:
            await wire.send(b"GET /tasks HTTP/1.1\r\nHost: h\r\nX-VX11-Token: \xff\r\n\r\n")
            assert (await wire.response()).status == 401
    finally:
        await madre.close()


@pytest.mark.parametrize("blueprint", [HERMES, MANIFESTATOR], ids=lambda b: b.name)
async def test_two_services_guard_their_health_too(start: Start, blueprint: DemoService) -> None:
    stranger = await start(blueprint, token="")
    async with stranger.get("/health") as response:
        assert response.status == 401
    friend = await start(blueprint)
    async with friend.get("/health") as response:
        assert (await response.json())["status"] == ("healthy" if blueprint is MANIFESTATOR else "ok")


async def test_an_unknown_path_is_refused_by_the_service_itself(start: Start) -> None:
    madre = await start(FAST)
    async with madre.get("/nothing") as response:
        assert response.status == 404
        assert (await response.json())["service"] == "madre"
    async with madre.delete("/tasks") as response:
        assert response.status == 405


async def test_a_taken_port_is_an_error_or_another_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        blueprint = replace(FAST, port=port)
        strict = Service(blueprint, token=None, seed="s")
        with pytest.raises(PortTakenError, match=rf"port {port} on 127\.0\.0\.1 is taken, so madre cannot start"):
            await strict.start("127.0.0.1", Ports.CANONICAL)
        await strict.close()
        yielding = Service(blueprint, token=None, seed="s")
        assert await yielding.start("127.0.0.1", Ports.PREFERRED) != port
        await yielding.close()


async def test_a_fleet_that_cannot_start_leaves_nothing_running() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.create_server(("127.0.0.1", 0)) as free:
        mine = free.getsockname()[1]
        free.close()
        first = replace(FAST, port=mine)
        second = replace(FAST, name="switch", port=taken.getsockname()[1])
        with pytest.raises(PortTakenError):
            await DemoServices(Service(b, token=None, seed="s") for b in (first, second)).start(
                "127.0.0.1", Ports.CANONICAL
            )
        async with ClientSession() as session:
            with pytest.raises(ClientConnectorError):
                await session.get(f"http://127.0.0.1:{mine}/health")


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
