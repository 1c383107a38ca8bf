"""The usual aiohttp proxy: one ClientSession, a catch-all handler, WebSockets frame by frame, on uvloop.

python -m bench.programs.usual PORT WEB_PORT LIVE_PORT
"""

from __future__ import annotations

import asyncio
import sys

import uvloop
from aiohttp import ClientSession, ClientTimeout, ClientWebSocketResponse, DummyCookieJar, TCPConnector, WSMsgType, web
from multidict import CIMultiDict

from bench import traffic

PORT, WEB, LIVE = map(int, sys.argv[1:4]) if len(sys.argv) > 3 else (0, 0, 0)
SESSION = web.AppKey("session", ClientSession)
HOP_BY_HOP = {
    *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding"),
    *("upgrade", "host"),
}


def _headers(request: web.Request) -> CIMultiDict[str]:
    kept = CIMultiDict((k, v) for k, v in request.headers.items() if k.lower() not in HOP_BY_HOP)
    kept["X-Forwarded-For"] = request.remote or ""
    kept["X-Forwarded-Proto"] = request.scheme
    kept["X-Forwarded-Host"] = request.host
    return kept


async def _proxy(request: web.Request) -> web.StreamResponse:
    port = LIVE if request.path.startswith(traffic.LIVE) else WEB
    url = f"http://127.0.0.1:{port}{request.path_qs}"
    if request.headers.get("Upgrade", "").lower() == "websocket":
        return await _socket(request, url)
    body = request.content if request.can_read_body else None
    session = request.app[SESSION]
    async with session.request(
        request.method, url, headers=_headers(request), data=body, allow_redirects=False
    ) as upstream:
        headers = CIMultiDict((k, v) for k, v in upstream.headers.items() if k.lower() not in HOP_BY_HOP)
        response = web.StreamResponse(status=upstream.status, reason=upstream.reason, headers=headers)
        await response.prepare(request)
        async for chunk in upstream.content.iter_any():
            await response.write(chunk)
        await response.write_eof()
        return response


async def _socket(request: web.Request, url: str) -> web.StreamResponse:
    client = web.WebSocketResponse()
    await client.prepare(request)
    async with request.app[SESSION].ws_connect(url, headers={"X-Forwarded-For": request.remote or ""}) as upstream:
        pumps = [asyncio.ensure_future(_pump(client, upstream)), asyncio.ensure_future(_pump(upstream, client))]  # noqa: TID251
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for pump in pumps:
            pump.cancel()
    return client


_Socket = web.WebSocketResponse | ClientWebSocketResponse


async def _pump(source: _Socket, target: _Socket) -> None:
    async for message in source:
        if message.type is WSMsgType.TEXT:
            await target.send_str(message.data)
        elif message.type is WSMsgType.BINARY:
            await target.send_bytes(message.data)


async def _application() -> web.Application:
    app = web.Application()
    app[SESSION] = ClientSession(
        connector=TCPConnector(limit=0),
        cookie_jar=DummyCookieJar(),
        auto_decompress=False,
        timeout=ClientTimeout(total=None),
    )
    app.router.add_route("*", "/{path:.*}", _proxy)
    return app


if __name__ == "__main__":
    uvloop.install()
    web.run_app(_application(), host="127.0.0.1", port=PORT, access_log=None, print=None, backlog=4096)
