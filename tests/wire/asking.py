"""The plain client of most tests on the wire: one request, its answer, and the problem that this carries."""

from __future__ import annotations

import json

from tests.support.wire import Response, Wire


async def ask(wire: Wire, target: str, *lines: bytes, method: str = "GET", host: str = "h") -> Response:
    """One request and its answer."""
    head = f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n".encode() + b"".join(line + b"\r\n" for line in lines)
    await wire.send(head + b"\r\n")
    return await wire.response(method)


def problem(response: Response) -> dict[str, object]:
    """The problem that an answer carries."""
    assert response.get("content-type") == "application/problem+json"
    members: dict[str, object] = json.loads(response.body)
    assert members["status_code"] == response.status
    return members
