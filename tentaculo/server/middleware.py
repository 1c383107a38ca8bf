"""What stands around every native handler: request id, CORS, problems, the token, and headers that keep pages safe.

    request → cors → problems → auth → handler
    answer  ← headers, set when it is prepared, so that streams and refusals carry them too

Proxied traffic never comes this way.
"""

from __future__ import annotations

import secrets

import structlog
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from tentaculo.config import schema
from tentaculo.model.failure import Failure, Problem
from tentaculo.security.cors import CorsPolicy
from tentaculo.security.tokens import TokenCheck, Tokens
from tentaculo.server import problems, templating

log = structlog.get_logger(__name__)

REQUEST_ID = web.RequestKey("request_id", str)
"""Set by whoever receives the request; one is made here where nobody did."""
_STARTED = web.RequestKey("started", bool)

_PLAIN_POLICY = templating.content_security_policy()
_ALWAYS_OPEN = ("/", "/health", "/vx11/status", "/livez", "/readyz", "/metrics")
_BY_STATUS = {
    400: Failure.BAD_REQUEST,
    403: Failure.FORBIDDEN,
    404: Failure.NOT_FOUND,
    405: Failure.METHOD_NOT_ALLOWED,
    408: Failure.REQUEST_TIMEOUT,
    413: Failure.BODY_TOO_LARGE,
    414: Failure.TARGET_TOO_LONG,
    415: Failure.UNSUPPORTED_MEDIA_TYPE,
    431: Failure.HEADERS_TOO_LARGE,
    501: Failure.NOT_IMPLEMENTED,
}


def open_paths(auth: schema.AuthSettings) -> frozenset[str]:
    """The native paths that ask for no token, as their routes are written."""
    return frozenset(
        (*_ALWAYS_OPEN, *(["/status"] if auth.open_status else []), *(["/ws"] if auth.open_websocket else []))
    )


def install(app: web.Application, *, tokens: Tokens, cors: CorsPolicy, open_paths: frozenset[str]) -> None:
    """Put all of this around the handlers of `app`. To be called once, before it starts."""
    problems.error_page()
    app.middlewares.extend([preflights(cors), render_problems, authentication(tokens, open_paths)])

    async def dress(request: web.Request, response: web.StreamResponse) -> None:
        request[_STARTED] = True
        _set_headers(request, response, cors)

    app.on_response_prepare.append(dress)


def request_id(request: web.Request) -> str:
    """The id of this request, in its log lines and its answer."""
    if REQUEST_ID not in request:
        request[REQUEST_ID] = secrets.token_hex(8)
    return request[REQUEST_ID]


def preflights(cors: CorsPolicy) -> Middleware:
    """Answers the preflights of listed origins, before any token is asked for."""

    @web.middleware
    async def answer_preflights(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.method == hdrs.METH_OPTIONS:
            headers = cors.preflight(
                request.headers.get(hdrs.ORIGIN),
                request.headers.get(hdrs.ACCESS_CONTROL_REQUEST_METHOD),
                request.headers.get(hdrs.ACCESS_CONTROL_REQUEST_HEADERS),
            )
            if headers is not None:
                return web.Response(status=204, headers=headers)
        return await handler(request)

    return answer_preflights


@web.middleware
async def render_problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turns every failure of a native handler into a problem; of one that nobody foresaw, nothing gets out."""
    try:
        return await handler(request)
    except Problem as problem:
        found = problem
        if request.get(_STARTED):
            raise
    except web.HTTPException as error:
        if error.status < 400 or request.get(_STARTED):
            raise
        found = from_http(error)
    except Exception as error:
        # The boundary of every native handler: what comes out here is a defect, to be logged and answered with 500.
        if request.get(_STARTED) or (isinstance(error, ConnectionError) and _has_left(request)):
            raise
        log.exception("native handler failed", request_id=request_id(request), method=request.method, path=request.path)
        found = Problem(Failure.INTERNAL, "The failure was logged under this request's id.")
    answer = problems.render(found, request.headers.get(hdrs.ACCEPT), request_id=request_id(request))
    headers = {**answer.headers, hdrs.CONTENT_TYPE: answer.content_type}
    response = web.Response(status=answer.status, body=answer.body, headers=headers)
    if not request.content.is_eof():
        # A client that waits for a 100 need not send the body now, so where it would end is not certain.
        response.force_close()
    return response


def _has_left(request: web.Request) -> bool:
    return request.transport is None or request.transport.is_closing()


def from_http(error: web.HTTPException) -> Problem:
    """aiohttp's own refusals as problems of the same status; its text is dropped, the methods that go are kept."""
    failure = _BY_STATUS.get(error.status) or (Failure.BAD_REQUEST if error.status < 500 else Failure.INTERNAL)
    allow = error.headers.get(hdrs.ALLOW)
    detail = f"This path takes {allow.replace(',', ', ')}." if allow else None
    return Problem(failure, detail, headers={hdrs.ALLOW: allow} if allow else {})


def authentication(tokens: Tokens, open_paths: frozenset[str]) -> Middleware:
    """Asks for the token, except where the route is open. No byte of a body is read before it was found good."""

    @web.middleware
    async def authenticate(request: web.Request, handler: Handler) -> web.StreamResponse:
        if _is_closed(request, open_paths):
            verdict = tokens.check(_raw(request, "X-VX11-Token"), _raw(request, hdrs.AUTHORIZATION))
            if verdict is TokenCheck.MISSING:
                raise Problem(Failure.AUTH_REQUIRED)
            if not verdict.is_allowed:
                raise Problem(Failure.FORBIDDEN)
        return await handler(request)

    return authenticate


def _is_closed(request: web.Request, open_paths: frozenset[str]) -> bool:
    """Judged by the route that was matched, not by the path's text, so that the two can never differ.

    A path that does not exist is nobody's secret: it is answered 404 without a token.
    """
    resource = request.match_info.route.resource
    if resource is not None:
        return resource.canonical not in open_paths
    error = request.match_info.http_exception
    return error is None or (error.status != 404 and request.path not in open_paths)


def _raw(request: web.Request, name: str) -> bytes | None:
    value = request.headers.get(name)
    # aiohttp reads header bytes this way, so this is what came over the wire.
    return None if value is None else value.encode("utf-8", "surrogateescape")


def _set_headers(request: web.Request, response: web.StreamResponse, cors: CorsPolicy) -> None:
    headers = response.headers
    headers["X-Request-ID"] = request_id(request)
    headers[hdrs.SERVER] = "Tentaculo-Link"  # aiohttp would tell its version and Python's
    vary = headers.get(hdrs.VARY, "")
    if "origin" not in vary.lower():
        headers[hdrs.VARY] = f"{vary}, Origin" if vary else "Origin"
    allowed = cors.headers(request.headers.get(hdrs.ORIGIN))
    headers.update({name: value for name, value in allowed.items() if name != hdrs.VARY})
    if response.status == 101:
        return
    headers.setdefault("X-Content-Type-Options", "nosniff")
    headers.setdefault("Referrer-Policy", "no-referrer")
    headers.setdefault("Content-Security-Policy", _PLAIN_POLICY)
    headers.setdefault(hdrs.CACHE_CONTROL, "no-store")
