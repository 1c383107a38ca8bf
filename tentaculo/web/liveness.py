"""The endpoints `/livez` and `/readyz`, for process supervisors and load balancers."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from aiohttp import web

from tentaculo.server.listeners import Phase


def routes(*, phase: Callable[[], Phase], store_problem: Callable[[], str | None]) -> list[web.RouteDef]:
    """The routes `/livez` and `/readyz`.

    `/livez` always responds 200. `/readyz` responds 200 when `phase` is `READY`, else 503. `store_problem` returns None
    while the database can be written, else the reason why not; the reason is shown but does not change the status.
    """

    async def livez(request: web.Request) -> web.Response:
        return _json({"status": "alive"}, 200)

    async def readyz(request: web.Request) -> web.Response:
        now, problem = phase(), store_problem()
        database = {"status": "ok"} if problem is None else {"status": "failed", "problem": problem}
        checks = {"process": {"status": "ok" if now is Phase.READY else now.value}, "database": database}
        return _json({"status": now.value, "checks": checks}, 200 if now is Phase.READY else 503)

    return [web.get("/livez", livez), web.get("/readyz", readyz)]


def _json(body: object, status: int) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(body), content_type="application/json")
