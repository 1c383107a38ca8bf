"""`/tentaculo/admin/reload`: a reload by HTTP, with its report as the response; and what became of the last one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC
from typing import Any

from aiohttp import web

from tentaculo.config.errors import ConfigFault
from tentaculo.gateway.admin_routes import check_origin, require_caller
from tentaculo.gateway.reloading import ReloadRefusedError, ReloadReport, Reloads
from tentaculo.model import access
from tentaculo.model.failure import Failure, Problem
from tentaculo.security.cors import CorsPolicy
from tentaculo.server.caller import SENDER, name_of
from tentaculo.server.native_routes import NativeRoute, json_response
from tentaculo.web.metrics_sources import ReloadView

RETRY_AFTER = {"Retry-After": "1"}


class ReloadRoute:
    """The handlers."""

    def __init__(self, reloads: Reloads, cors: CorsPolicy) -> None:
        self._reloads = reloads
        self._cors = cors

    async def get(self, request: web.Request) -> web.Response:
        """Respond with what is served since when, and with the last reload. Raises `Problem`: 403."""
        require_caller(request)
        last = self._reloads.last
        by, at = last.loaded
        attempt = {
            "by": last.by,
            "at": last.at.astimezone(UTC),
            "accepted": last.is_accepted,
            "reason": last.why_not or None,
            "faults": [*_shown(last.faults)],
        }
        response = json_response(
            {"generation": last.generation, "by": by, "at": at.astimezone(UTC), "last_reload": attempt}
        )
        response.headers["Cache-Control"] = "no-store"
        return response

    async def post(self, request: web.Request) -> web.Response:
        """Reload, and respond with what was changed. Raises `Problem`: 403, 422 with every fault, 500, 503."""
        if not request[SENDER].is_authenticated:
            raise Problem(Failure.FORBIDDEN, "Without tokens nobody may reload the gateway by HTTP: send it SIGHUP.")
        check_origin(self._cors, request)
        try:
            report = await self._reloads.reload(f"token {name_of(request)}")
        except ReloadRefusedError as error:
            failure = Failure.STOPPING if error.is_stopping else Failure.STARTING
            raise Problem(failure, str(error), headers=RETRY_AFTER) from None
        return json_response(accepted(report))


def accepted(report: ReloadReport) -> Mapping[str, Any]:
    """The members of the response. Raises `Problem` where nothing was changed."""
    if report.changes is None:
        members = {"generation": report.generation}
        if report.problem:
            raise Problem(Failure.INTERNAL, f"The configuration was not applied: {report.problem}.", members)
        detail = f"Nothing was changed, since {report.why_not}."
        raise Problem(Failure.CONFIGURATION_REJECTED, detail, {**members, "faults": [*_shown(report.faults)]})
    return {
        "generation": report.generation,
        "by": report.by,
        "at": report.at.astimezone(UTC),
        **report.changes.as_json(),
        "warnings": list(report.warnings),
    }


def _shown(faults: Iterable[ConfigFault]) -> Iterable[Mapping[str, str]]:
    return ({"path": fault.path, "message": fault.message} for fault in faults)


def reload_view(last: ReloadReport) -> ReloadView:
    """What `/metrics` shows of the last reload."""
    return ReloadView(last.generation, not last.why_not, last.at.timestamp())


def routes(reloads: Reloads, cors: CorsPolicy) -> list[NativeRoute]:
    """The routes. `cors` says which pages may use them."""
    route = ReloadRoute(reloads, cors)
    return [
        NativeRoute("GET", "/tentaculo/admin/reload", route.get, access.ADMIN),
        NativeRoute("POST", "/tentaculo/admin/reload", route.post, access.ADMIN),
    ]
