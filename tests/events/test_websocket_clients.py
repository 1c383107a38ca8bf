from __future__ import annotations

import asyncio
import gc
import json
import time
from typing import Any

import pytest
import websockets
from aiohttp import ClientWebSocketResponse, WSMsgType, WSServerHandshakeError
from aiohttp.web import WebSocketResponse

from tentaculo.events import websocket
from tests.events.conftest import DEADLINE, Gateway, Start, silent_for
from tests.support.event_clients import alert_text, raw_socket, text_frame
from tests.support.waits import eventually

# 4. Client ids, slow clients


def alive() -> int:
    gc.collect()
    return sum(type(item) is WebSocketResponse for item in gc.get_objects())


async def test_nothing_is_left_of_a_client_that_vanishes(gateway: Gateway) -> None:
    socket = await raw_socket(gateway)
    await eventually(lambda: len(gateway.hub) == 1, "subscribed")
    assert alive() == 1
    socket.close()
    await eventually(lambda: len(gateway.hub) == 0, "the place given back")
    await eventually(lambda: not alive(), "freed")


async def test_4_defect_4_equal_client_ids_are_independent(gateway: Gateway, alert: dict[str, Any]) -> None:
    one, two, three = [await gateway.connect("?client_id=same") for _ in range(3)]
    await one.send_str(alert_text(alert))
    assert (await two.receive_json(timeout=DEADLINE))["alert_id"] == "a1"
    assert (await three.receive_json(timeout=DEADLINE))["alert_id"] == "a1"
    await two.close()
    await eventually(lambda: len(gateway.hub) == 2, "one gone")
    await one.receive(timeout=DEADLINE)
    await one.send_str(alert_text({**alert, "alert_id": "a2"}))
    assert (await three.receive_json(timeout=DEADLINE))["alert_id"] == "a2"


async def flood(gateway: Gateway, count: int) -> list[float]:
    """Broadcast `count` events of 60 KB by ingest; gives the seconds each took."""
    took = []
    for number in range(count):
        before = time.monotonic()
        status, _ = await gateway.ingest(
            {"source": "s", "type": "t", "payload": {"n": number, "pad": "x" * 60_000}, "broadcast": True}
        )
        took.append(time.monotonic() - before)
        assert status == 201
    return took


async def take(socket: ClientWebSocketResponse, count: int) -> list[int]:
    return [(await socket.receive_json(timeout=DEADLINE))["n"] for _ in range(count)]


async def test_4_defect_5_a_stalled_client_delays_nobody_and_is_cut_off_alone(start: Start) -> None:
    gateway = await start(subscriber_queue=8)
    await raw_socket(gateway, buffer=4096)
    healthy = [await gateway.connect(), await gateway.connect()]
    count = 150
    first, second, took = await asyncio.gather(take(healthy[0], count), take(healthy[1], count), flood(gateway, count))
    assert first == second == list(range(count))
    assert max(took) < 1
    assert (gateway.hub.cut_off, len(gateway.hub)) == (1, 2)
    # Nothing is left of it: its connection is dropped although it never takes what is buffered.
    await eventually(lambda: gateway.connections == 3, "the stalled connection dropped")
    for socket in healthy:
        await silent_for(socket)


async def test_4_a_slow_client_that_wakes_up_reads_why_it_was_cut_off(start: Start) -> None:
    gateway = await start(subscriber_queue=8)
    slow = await raw_socket(gateway, buffer=4096)
    loop, count = asyncio.get_running_loop(), 0
    while not gateway.hub.cut_off:
        await flood(gateway, 1)
        count += 1
        assert count < 300
    tail = b""
    while chunk := await asyncio.wait_for(loop.sock_recv(slow, 1 << 20), DEADLINE):
        tail = (tail + chunk)[-100:]
    assert tail.endswith(b"\x88\x0a" + (1013).to_bytes(2, "big") + b"too slow")
    await eventually(lambda: len(gateway.hub) == 0, "the place given back")


async def test_4_a_client_that_sends_and_never_reads_is_no_longer_read_and_delays_nobody(gateway: Gateway) -> None:
    deaf = await raw_socket(gateway, buffer=4096)
    other = await gateway.connect()
    loop = asyncio.get_running_loop()
    frame = text_frame(b'{"pad":"' + b"x" * 60_000 + b'"}')

    async def send_on() -> None:
        for _ in range(2000):
            await asyncio.wait_for(loop.sock_sendall(deaf, frame), 0.3)

    with pytest.raises(TimeoutError):
        await send_on()
    await silent_for(other)
    assert (await flood(gateway, 1))[0] < 1
    assert (await other.receive_json(timeout=DEADLINE))["n"] == 0
    deaf.close()
    await eventually(lambda: len(gateway.hub) == 1, "the deaf client gone")


async def test_half_open_clients_are_found(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "HEARTBEAT_SECONDS", 0.1)
    await raw_socket(gateway)  # Answers no ping.
    await eventually(lambda: len(gateway.hub) == 0, "the silent client gone")
    await eventually(lambda: gateway.connections == 0, "its connection dropped")


async def test_places_are_bounded(start: Start) -> None:
    gateway = await start(subscribers=1)
    first = await gateway.connect()
    with pytest.raises(WSServerHandshakeError) as refused:
        await gateway.session.ws_connect(gateway.ws_url)
    assert refused.value.status == 503
    await first.close()
    await eventually(lambda: len(gateway.hub) == 0, "the place given back")
    await gateway.connect()


async def test_clients_that_come_and_go_leave_nothing(gateway: Gateway) -> None:
    for _ in range(20):
        socket = await gateway.connect()
        await socket.close()
        assert socket.close_code == 1000
        (await raw_socket(gateway)).close()
    await eventually(lambda: len(gateway.hub) == 0, "all places given back")
    await eventually(lambda: gateway.connections == 0, "all connections gone")
    names = {task.get_name() for task in asyncio.all_tasks()}
    assert not any(name.startswith("ws:") for name in names)


# Who may connect


@pytest.mark.parametrize("origin", ["http://localhost:8020", "http://127.0.0.1:5173"])
async def test_the_operators_pages_may_connect(gateway: Gateway, origin: str) -> None:
    await gateway.connect(headers={"Origin": origin})


async def test_a_page_of_the_gateway_itself_may_connect(gateway: Gateway) -> None:
    await gateway.connect(headers={"Origin": gateway.url})


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1", "http://localhost:8020.evil.com"]
)
async def test_defect_3_other_pages_may_not_connect(gateway: Gateway, origin: str) -> None:
    with pytest.raises(websockets.InvalidStatus) as refused:
        async with websockets.connect(gateway.ws_url, additional_headers={"Origin": origin}, proxy=None):
            pass
    response = refused.value.response
    assert response.status_code == 403
    assert json.loads(response.body or b"")["error"] == "origin_denied"
    assert len(gateway.hub) == 0


async def test_origins_are_configuration(start: Start) -> None:
    gateway = await start(origins=("https://mine.example",))
    await gateway.connect(headers={"Origin": "https://mine.example"})
    with pytest.raises(WSServerHandshakeError):
        await gateway.connect(headers={"Origin": "http://localhost:8020"})


async def test_a_plain_request_is_told_to_upgrade(gateway: Gateway) -> None:
    async with gateway.session.get(f"{gateway.url}/ws") as answer:
        assert answer.status == 426
        assert answer.headers["Upgrade"] == "websocket"
        assert answer.headers["Sec-WebSocket-Version"] == "13"
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket"}
    for headers, status in (
        ({**upgrade, "Sec-WebSocket-Version": "12", "Sec-WebSocket-Key": "MDEyMzQ1Njc4OWFiY2RlZg=="}, 426),
        ({**upgrade, "Sec-WebSocket-Version": "8", "Sec-WebSocket-Key": "MDEyMzQ1Njc4OWFiY2RlZg=="}, 426),
        ({**upgrade, "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "short"}, 400),
        ({**upgrade, "Sec-WebSocket-Version": "13"}, 400),
    ):
        async with gateway.session.get(f"{gateway.url}/ws", headers=headers) as answer:
            assert answer.status == status
    assert len(gateway.hub) == 0


# Stopping


async def test_on_shutdown_every_client_is_told_and_a_stalled_one_does_not_hold_it_up(start: Start) -> None:
    gateway = await start(subscriber_queue=200)
    await raw_socket(gateway, buffer=4096)
    await flood(gateway, 100)
    clients = [await gateway.connect(), await gateway.connect()]
    began = time.monotonic()

    async def close_of(client: ClientWebSocketResponse) -> tuple[Any, Any]:
        message = await client.receive(timeout=DEADLINE)
        assert message.type is WSMsgType.CLOSE
        return message.data, message.extra

    first, second, _ = await asyncio.gather(*map(close_of, clients), gateway.stop())
    assert first == second == (1001, "the gateway is stopping")
    assert time.monotonic() - began < 4
    assert len(gateway.hub) == 0
