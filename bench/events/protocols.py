"""How one listens and publishes: the gateway by HTTP and WebSocket, NATS, Redis and PostgreSQL, in their own bytes."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass

from bench import traffic

MARK = b"^"
"""Stands before and behind the moment of an event, and nowhere else: not in the head of a WebSocket frame either."""
CHANNEL = "bench"
_FILL = "x" * 120
_WAIT = 60.0


@dataclass(frozen=True, slots=True)
class Kind:
    """One protocol."""

    listen: Callable[[int, int], socket.socket]
    """A connection to this port that gets every event from now on; the number of the listener chooses its form."""
    publisher: Callable[[int], socket.socket]
    """A connection that publishes."""
    message: Callable[[bytes, int], bytes]
    """What publishes so many events with this stamp."""
    refuses: Callable[[bytes], bool]
    """Whether the publisher got such a response."""


def _connect(port: int) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port), _WAIT)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _await(sock: socket.socket, *ends: bytes) -> bytes:
    """Read until what arrived contains one of `ends`. Raises `ConnectionError`."""
    found = b""
    while not any(end in found for end in ends):
        data = sock.recv(65536)
        if not data:
            raise ConnectionError(f"closed after {found[:200]!r}")
        found += data
    return found


def _greeted(port: int, hello: bytes, end: bytes) -> socket.socket:
    sock = _connect(port)
    sock.sendall(hello)
    found = _await(sock, end, b" 503 ", b" 401 ", b"-ERR")
    if end not in found:
        raise ConnectionError(f"refused: {found[:200]!r}")
    return sock


def _payload(stamp: bytes) -> bytes:
    payload = {"stamp": stamp.decode(), "message": _FILL}
    event = {"source": "bench", "type": "bench.event", "payload": payload, "broadcast": True}
    return json.dumps(event, separators=(",", ":")).encode()


# -- the gateway ---------------------------------------------------------------------------------------------------------

_STREAM = traffic.head("GET", "/events/stream", ("Accept", "text/event-stream"))
_SOCKET = traffic.upgrade().replace(traffic.ECHO.encode(), b"/ws", 1)


def _listen_gateway(port: int, number: int) -> socket.socket:
    return _listen_stream(port, number) if number % 2 else _listen_websocket(port, number)


def _listen_stream(port: int, _: int) -> socket.socket:
    return _greeted(port, _STREAM, b"event: start")


def _listen_websocket(port: int, _: int) -> socket.socket:
    return _greeted(port, _SOCKET, b'"type":"connected"')


def _ingest(stamp: bytes, count: int) -> bytes:
    body = b"[" + b",".join([_payload(stamp)] * count) + b"]"
    fields = (("Content-Type", "application/json"), ("Content-Length", str(len(body))))
    return traffic.head("POST", "/events/ingest", *fields) + body


# -- NATS ----------------------------------------------------------------------------------------------------------------

_HELLO = b'CONNECT {"verbose":false,"pedantic":false,"protocol":1}\r\n'


def _listen_nats(port: int, _: int) -> socket.socket:
    return _greeted(port, _HELLO + f"SUB {CHANNEL} 1\r\nPING\r\n".encode(), b"PONG")


def _publish_nats(stamp: bytes, count: int) -> bytes:
    body = _payload(stamp)
    return b"PUB %b %d\r\n%b\r\n" % (CHANNEL.encode(), len(body), body) * count


# -- Redis ---------------------------------------------------------------------------------------------------------------


def _words(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


def _listen_redis(port: int, _: int) -> socket.socket:
    return _greeted(port, _words(b"SUBSCRIBE", CHANNEL.encode()), b":1\r\n")


def _publish_redis(stamp: bytes, count: int) -> bytes:
    return _words(b"PUBLISH", CHANNEL.encode(), _payload(stamp)) * count


# -- PostgreSQL ----------------------------------------------------------------------------------------------------------


def _connect_postgresql(port: int) -> socket.socket:
    names = b"user\0bench\0database\0postgres\0\0"
    return _greeted(port, struct.pack("!ii", 8 + len(names), 196608) + names, b"Z\0\0\0\x05I")


def _query(text: bytes) -> bytes:
    return b"Q" + struct.pack("!i", 5 + len(text)) + text + b"\0"


def _listen_postgresql(port: int, _: int) -> socket.socket:
    sock = _connect_postgresql(port)
    sock.sendall(_query(f"LISTEN {CHANNEL}".encode()))
    _await(sock, b"Z\0\0\0\x05I")
    return sock


def _notify(stamp: bytes, count: int) -> bytes:
    # PostgreSQL merges equal notifications of one transaction.
    return b"".join(_query(b"NOTIFY %b, '%b'" % (CHANNEL.encode(), _payload(stamp))) for _ in range(count))


KINDS = {
    "gateway": Kind(_listen_gateway, _connect, _ingest, lambda said: b"HTTP/1.1 2" not in said),
    "stream": Kind(_listen_stream, _connect, _ingest, lambda said: b"HTTP/1.1 2" not in said),
    "websocket": Kind(_listen_websocket, _connect, _ingest, lambda said: b"HTTP/1.1 2" not in said),
    "nats": Kind(
        _listen_nats,
        lambda port: _greeted(port, _HELLO + b"PING\r\n", b"PONG"),
        _publish_nats,
        lambda said: said.startswith(b"-ERR"),
    ),
    "redis": Kind(_listen_redis, _connect, _publish_redis, lambda said: said.startswith(b"-")),
    "postgresql": Kind(_listen_postgresql, _connect_postgresql, _notify, lambda said: said.startswith(b"E")),
}
"""By name. `gateway` is half event streams and half WebSockets."""
