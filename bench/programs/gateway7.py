"""FastAPI and httpx in the way of the 7.0 gateway: one client, bodies whole, a token check.

python -m bench.programs.gateway7 PORT WEB_PORT LIVE_PORT
"""

from __future__ import annotations

import sys

import httpx
import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Request, Response

from bench import traffic

PORT, WEB, LIVE = map(int, sys.argv[1:4]) if len(sys.argv) > 3 else (0, 0, 0)
DROPPED = {"connection", "keep-alive", "transfer-encoding", "host", "content-length"}


def token_guard(request: Request) -> bool:
    """Refuse a request without the token."""
    if request.headers.get("X-VX11-Token") != traffic.TOKEN:
        raise HTTPException(status_code=401, detail="auth_required")
    return True


async def proxy(path: str, request: Request) -> Response:
    """Read the request whole, ask, read the answer whole, answer."""
    port = LIVE if request.url.path.startswith(traffic.LIVE) else WEB
    headers = {k: v for k, v in request.headers.items() if k not in DROPPED}
    headers["X-Forwarded-For"] = request.client.host if request.client else ""
    client: httpx.AsyncClient = request.app.state.client
    answer = await client.request(
        request.method, f"http://127.0.0.1:{port}/{path}", headers=headers, content=await request.body()
    )
    kept = {k: v for k, v in answer.headers.items() if k not in DROPPED}
    return Response(answer.content, status_code=answer.status_code, headers=kept)


def application() -> FastAPI:
    """The gateway."""
    app = FastAPI()
    # One for each request would be the older way, and would load the certificates each time: 8 requests a second.
    app.state.client = httpx.AsyncClient(timeout=60.0)
    app.add_api_route("/{path:path}", proxy, methods=["GET", "POST"], dependencies=[Depends(token_guard)])
    return app


if __name__ == "__main__":
    uvicorn.run(application(), host="127.0.0.1", port=PORT, log_level="warning", access_log=False, loop="uvloop")
