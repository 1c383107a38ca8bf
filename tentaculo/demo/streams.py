"""What takes its time: an event stream, a chat by WebSocket, an upload, a long wait."""

from __future__ import annotations

import asyncio
import json
from hashlib import sha256

from aiohttp import BodyPartReader, MultipartReader, WSMsgType, web

from tentaculo.demo.responses import moment
from tentaculo.demo.services import NAME

LONGEST_WAIT = 300.0
LARGEST_MESSAGE = 16 * 1024 * 1024


def _number(request: web.Request, name: str, default: float, low: float, high: float) -> float:
    """A query parameter as a number within bounds; 400 where it is none."""
    try:
        value = float(request.query.get(name, default))
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        raise web.HTTPBadRequest(text=f"{name} must be a number from {low:g} to {high:g}")
    return value


async def wait(request: web.Request) -> web.Response:
    """Answer after `?seconds=` (0 to 300, default 1): a call that the gateway must not cut short."""
    seconds = _number(request, "seconds", 1, 0, LONGEST_WAIT)
    await asyncio.sleep(seconds)
    return web.json_response(
        {"service": request.app[NAME], "daughter": request.match_info["id"], "status": "done", "waited": seconds}
    )


async def stream(request: web.Request) -> web.StreamResponse:
    """Server-sent events: one every `?every=` seconds (default 1), `?count=` of them (default 0: without end).

    `Last-Event-ID` goes on where the client left off.
    """
    every = _number(request, "every", 1, 0, 60)
    count = int(_number(request, "count", 0, 0, 1_000_000))
    last = request.headers.get("Last-Event-ID", "")
    first = int(last) + 1 if last.isascii() and last.isdigit() and len(last) < 16 else 1
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
    await response.prepare(request)
    number = first
    while count == 0 or number < first + count:
        data = json.dumps({"tool": "search", "step": number, "at": moment()})
        await response.write(f"id: {number}\nevent: tool.step\ndata: {data}\n\n".encode())
        number += 1
        await asyncio.sleep(every)
    await response.write_eof()
    return response


async def chat(request: web.Request) -> web.WebSocketResponse:
    """A chat that says back what it hears: text as JSON with the session, bytes as they came."""
    session = request.match_info["session_id"]
    socket = web.WebSocketResponse(max_msg_size=LARGEST_MESSAGE)
    await socket.prepare(request)
    async for message in socket:
        if message.type is WSMsgType.TEXT:
            await socket.send_json({"session_id": session, "role": "assistant", "echo": message.data, "at": moment()})
        elif message.type is WSMsgType.BINARY:
            await socket.send_bytes(message.data)
    return socket


async def _measure(part: BodyPartReader | web.Request) -> dict[str, object]:
    """Size and digest of a body, read in pieces and kept nowhere."""
    digest, size = sha256(), 0
    read = part.read_chunk if isinstance(part, BodyPartReader) else part.content.readany
    while chunk := await read():
        digest.update(chunk)
        size += len(chunk)
    return {"bytes": size, "sha256": digest.hexdigest()}


async def upload(request: web.Request) -> web.Response:
    """Take a body of any size, multipart or plain, and say how large each file was and its SHA-256."""
    files: list[dict[str, object]] = []
    if request.content_type.startswith("multipart/"):
        try:
            reader: MultipartReader = await request.multipart()
            while (part := await reader.next()) is not None:
                if not isinstance(part, BodyPartReader):
                    raise web.HTTPBadRequest(text="nested parts are not supported")
                files.append({"field": part.name, "filename": part.filename, **await _measure(part)})
        except ValueError as error:
            raise web.HTTPBadRequest(text="the body is not multipart") from error
    else:
        files.append({"field": None, "filename": None, **await _measure(request)})
    return web.json_response({"service": request.app[NAME], "files": files}, status=201)
