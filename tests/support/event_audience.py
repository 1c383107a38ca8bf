"""Clients that listen while a test sends what it likes: whatever they get is a message of the AsyncAPI document."""

from __future__ import annotations

import itertools
import json

from aiohttp import ClientSession, WSMsgType

from tests.support.api_messages import Messages
from tests.support.event_clients import event_stream
from tests.support.threaded_gateway import ThreadedGateway


class Audience:
    """A client of `/ws` and one of the stream, which listen during all examples."""

    def __init__(self, gateway: ThreadedGateway) -> None:
        self.gateway = gateway
        self.markers = itertools.count()
        self.checked = 0
        self._socket_messages, self._stream_messages = Messages("sendMessages"), Messages("sendFrames")
        gateway.run(self._open())

    async def _open(self) -> None:
        url = f"http://127.0.0.1:{self.gateway.server.port}"
        self.session = ClientSession()
        self.socket = await self.session.ws_connect(f"{url}/ws")
        self._stream = event_stream(self.session, url)
        self.stream = await self._stream.__aenter__()
        assert self._socket_messages.kinds(await self.socket.receive_json(timeout=5)) == {"Connected"}

    async def close(self) -> None:
        await self._stream.__aexit__(None, None, None)
        await self.session.close()

    async def check(self) -> None:
        """Everything up to a marker that is sent now has arrived, and each of it is a message of the document."""
        marker = next(self.markers)
        body = json.dumps({"source": "test", "type": "marker", "payload": {"marker": marker}, "broadcast": True})
        head = b"POST /events/ingest HTTP/1.1\r\nHost: g\r\nContent-Type: application/json\r\n"
        status, _, _ = await self.gateway.exchange(head, body.encode())
        assert status == 201
        while True:
            message = await self.socket.receive(timeout=5)
            assert message.type is WSMsgType.TEXT
            frame = json.loads(message.data)
            (kind,) = self._socket_messages.kinds(frame)
            assert kind.endswith("Broadcast")
            self.checked += 1
            if frame.get("marker") == marker:
                break
        while True:
            (event,) = await self.stream.events(1)
            assert self._stream_messages.kinds(event.data) == {"StoredEvent"}
            if event.data["payload"].get("marker") == marker:
                break
