"""What the load sends and what the upstream offers: the same for every proxy."""

from __future__ import annotations

TOKEN = "bench-token-0123456789abcdef0123456789abcdef"  # noqa: S105 - of a gateway that lives for minutes
BODY_SIZE = 1024
"""Bytes of the small answer."""
POST_SIZE = 4096
BIG_SIZE = 100 * 1000 * 1000
"""Bytes of the large answer and of the large upload."""

SMALL = "/api/k1"
VARIED = "/api/varied"
"""The small answer, too, asked for with another query each time."""
POST = "/api/post"
BIG = "/api/big"
LIVE = "/live"
"""Prefix of what the purpose server answers; everything else is nginx's."""
ECHO = "/live/echo"
TICKS = "/live/ticks"
UPLOAD = "/live/upload"
INGEST = "/events/ingest"
EVENT = (
    '{"source":"madre","type":"spawn_success","payload":{"spawn_id":"s1","name":"worker","seconds":12.5},'
    '"broadcast":true,"metadata":{}}'
)
"""The event that is sent, again and again."""
BATCH = 100
"""Events in a batch."""
ROUTE = "/route-{:05d}"
"""Prefix of one of many routes."""

HEADERS = (
    ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    ("Accept", "application/json, text/plain, */*"),
    ("Accept-Language", "en-GB,en;q=0.7,es;q=0.3"),
    ("Accept-Encoding", "gzip, deflate, br"),
    ("Referer", "http://localhost:8020/"),
    ("Cookie", "session=0123456789abcdef0123456789abcdef; theme=dark"),
    ("Cache-Control", "no-cache"),
    ("X-VX11-Token", TOKEN),
)
"""With Host, the nine headers of every request."""


def head(method: str, path: str, *extra: tuple[str, str]) -> bytes:
    """A request's head with the nine headers and `extra`."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost"]
    lines += [f"{name}: {value}" for name, value in (*HEADERS, *extra)]
    return "\r\n".join([*lines, "", ""]).encode()


def upgrade() -> bytes:
    """The head that opens a WebSocket."""
    return head(
        *("GET", ECHO),
        *(("Connection", "Upgrade"), ("Upgrade", "websocket")),
        *(("Sec-WebSocket-Version", "13"), ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")),
    )
