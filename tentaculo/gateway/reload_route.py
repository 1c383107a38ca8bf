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
from tentaculo.server.openapi import JsonObject, Operation, json_content, object_of, problem, reference, response
from tentaculo.web.metrics_sources import ReloadView

RETRY_AFTER = {"Retry-After": "1"}
_FAULT = object_of({"path": {"type": "string"}, "message": {"type": "string"}})


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
        NativeRoute("GET", "/tentaculo/admin/reload", route.get, access.ADMIN, _describe_last),
        NativeRoute("POST", "/tentaculo/admin/reload", route.post, access.ADMIN, _describe_reload),
    ]


def _describe_last() -> Operation:
    text: JsonObject = {"type": "string"}
    attempt: dict[str, JsonObject] = {
        "by": text,
        "at": reference("Time"),
        "accepted": {"type": "boolean"},
        "reason": {"type": ["string", "null"], "description": "Why nothing was changed."},
        "faults": {"type": "array", "items": reference("Fault")},
    }
    generation: JsonObject = {"type": "integer", "minimum": 1, "description": "That of the start is 1."}
    served: dict[str, JsonObject] = {"generation": generation, "by": text, "at": reference("Time")}
    last = object_of({**served, "last_reload": object_of(attempt)})
    return Operation(
        "lastReload",
        "Which configuration is served since when, and what became of the last reload. The token needs the scope `admin`.",
        {200: response("It.", json_content(reference("LastReload")))},
        schemas={"LastReload": last, "Fault": _FAULT},
    )


def _describe_reload() -> Operation:
    names = {"type": "array", "items": {"type": "string"}}
    restart = object_of({"key": {"type": "string"}, "reason": {"type": "string"}})
    report = object_of(
        {
            "generation": {"type": "integer", "minimum": 1, "description": "That of the start is 1."},
            "by": {"type": "string"},
            "at": reference("Time"),
            **{key: {**names, "description": "Names of services."} for key in ("added", "removed", "changed", "kept")},
            "changed_keys": {**names, "description": "Changed settings outside services that hold now."},
            "needs_restart": {
                "type": "array",
                "items": restart,
                "description": "Changed settings that hold after the next start.",
            },
            "warnings": names,
        }
    )
    members = {
        "generation": {"type": "integer", "minimum": 1},
        "faults": {"type": "array", "items": reference("Fault")},
    }
    rejected = problem([Failure.CONFIGURATION_REJECTED.error])
    rejected = {"allOf": [*rejected["allOf"], {"properties": members, "required": list(members)}]}
    return Operation(
        "reload",
        "Reads the configuration again. Whole or not at all. The token needs the scope `admin`.",
        {200: response("What has changed.", json_content(reference("Reload")))},
        failures=[Failure.CONFIGURATION_REJECTED, Failure.STARTING, Failure.STOPPING],
        refusals={Failure.CONFIGURATION_REJECTED: rejected},
        schemas={"Reload": report, "Fault": _FAULT},
    )
