"""100 MB at a time, one connection.

python -m bench.load.transfer PORT download|upload SECONDS
"""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Callable

from bench import traffic

_PIECE = 256 * 1024


def download(connection: socket.socket) -> None:
    """One large answer; its body may come chunked."""
    connection.sendall(traffic.head("GET", traffic.BIG))
    head, rest = _head(connection)
    chunked = b"transfer-encoding: chunked" in head.lower()
    received = len(rest)
    buffer = bytearray(_PIECE)
    tail = rest[-5:]
    while (not tail.endswith(b"0\r\n\r\n")) if chunked else (received < traffic.BIG_SIZE):
        count = connection.recv_into(buffer)
        if not count:
            raise ConnectionError(f"the answer ended after {received} bytes")
        received += count
        tail = (tail + buffer[max(0, count - 5) : count])[-5:]


def upload(connection: socket.socket) -> None:
    """One large body."""
    size = ("Content-Length", str(traffic.BIG_SIZE))
    connection.sendall(traffic.head("POST", traffic.UPLOAD, size, ("Content-Type", "application/octet-stream")))
    piece = memoryview(b"x" * _PIECE)
    left = traffic.BIG_SIZE
    while left:
        left -= connection.send(piece[: min(left, _PIECE)])
    _head(connection)


def _head(connection: socket.socket) -> tuple[bytes, bytes]:
    """The answer's head, and what came behind it. Raises ConnectionError unless it is a 200."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            raise ConnectionError(f"no answer: {data[:100]!r}")
        data += more
    if not data.startswith(b"HTTP/1.1 200"):
        raise ConnectionError(f"answered {data[:100]!r}")
    head, _, rest = data.partition(b"\r\n\r\n")
    return head, rest


def measure(port: int, transfer: Callable[[socket.socket], None], seconds: float) -> dict[str, float]:
    """Megabytes a second over as many transfers as fit, at least one, and their seconds. Each has its own connection."""
    count = 0
    started = time.perf_counter()
    while (took := time.perf_counter() - started) < seconds or not count:
        with socket.create_connection(("127.0.0.1", port), 60.0) as connection:
            transfer(connection)
        count += 1
    took = time.perf_counter() - started
    return {"megabytes": count * traffic.BIG_SIZE / took / 1e6, "transfers": float(count), "took": took}


if __name__ == "__main__":
    print(
        json.dumps(measure(int(sys.argv[1]), {"download": download, "upload": upload}[sys.argv[2]], float(sys.argv[3])))
    )
