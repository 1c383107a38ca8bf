"""The responses that the gateway makes itself and writes to the client's socket: refusals, preflights, traces.

Every refusal is written here: those of native and of proxied requests, and those of bytes that never became a request.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from functools import partial
from http import HTTPStatus

import msgspec

from tentaculo.model.failure import Failure, Problem
from tentaculo.net.inbound_request import InboundRequest, Request
from tentaculo.net.response_bytes import SENT_CLOSES, SENT_STAYS, SentResponse, date_line, response_bytes
from tentaculo.security.cors import CorsPolicy
from tentaculo.server import templating
from tentaculo.server.content_negotiation import LANGUAGE_PARAMETER, asked_language, weight_of, weights
from tentaculo.server.error_page import error_page
from tentaculo.telemetry.request_log import RequestRecord

PROBLEM_JSON = "application/problem+json"
HTML = "text/html; charset=utf-8"
_CHALLENGE = 'Bearer realm="Tentaculo Link"'


class Rendered(msgspec.Struct, frozen=True):
    """A response ready to be sent. `headers` holds everything but Content-Type and Content-Length."""

    status: int
    content_type: str
    body: bytes
    headers: Mapping[str, str]


def prefers_html(accept: bytes | str | None) -> bool:
    """Whether an Accept value names text/html and rates it above JSON (RFC 9110 section 12.5.1).

    A value with no clear preference, `*/*` among them, means JSON: most callers are programs.
    """
    if not accept:
        return False
    text = accept.decode("latin-1") if isinstance(accept, bytes) else accept
    if "text/html" not in text.lower():
        return False
    found = weights(text)
    return found.get("text/html", 0.0) > weight_of(found, PROBLEM_JSON, "application/json")


def render(
    problem: Problem, accept: bytes | str | None, *, request_id: str | None, language: Callable[[], str] = lambda: "en"
) -> Rendered:
    """The response for `problem`, in the form that `accept` (the Accept header's value) asks for.

    `language` returns the code of the language of its reader. Only a page has one: programs get English.
    """
    headers = {**safe_headers(), "Vary": "Accept"}
    if request_id is not None:
        headers["X-Request-ID"] = headers["X-Correlation-Id"] = request_id
    if problem.status == 401:
        headers["WWW-Authenticate"] = _CHALLENGE
    elif (scope := problem.extra.get("scope")) is not None and problem.failure is Failure.MISSING_SCOPE:
        # RFC 6750 section 3.1.
        headers["WWW-Authenticate"] = f'{_CHALLENGE}, error="insufficient_scope", scope="{scope}"'
    if prefers_html(accept):
        page = error_page()
        headers["Content-Security-Policy"] = page.policy
        headers["Vary"] = "Accept, Accept-Language, Cookie"
        body = page.render(problem, request_id, language())
        return Rendered(problem.status, HTML, body, {**headers, **problem.headers})
    members = problem.members()
    if request_id is not None:
        members["request_id"] = request_id
    return Rendered(problem.status, PROBLEM_JSON, msgspec.json.encode(members), {**headers, **problem.headers})


@functools.cache
def _plain_policy() -> str:
    return templating.content_security_policy()


SERVER = "Tentaculo-Link"
"""The value of Server. aiohttp would name its version and Python's."""


@functools.cache
def safe_headers() -> Mapping[str, str]:
    """The headers of native responses that keep pages safe, where a response has no others of these names."""
    return {
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Content-Security-Policy": _plain_policy(),
        "Cache-Control": "no-store",
    }


def _language_of(inbound: InboundRequest) -> str:
    # Not `inbound.target`, which is not there where the request was refused before.
    chosen = _CHOSEN.search(inbound.raw_target.partition("?")[2])
    cookies, accepted = inbound.first(b"cookie"), inbound.first(b"accept-language")
    return asked_language("" if chosen is None else chosen[1], cookies or "", accepted or "")


_CHOSEN = re.compile(rf"(?:^|&){LANGUAGE_PARAMETER}=([a-z]+)(?:&|$)")
_UNCERTAIN = (Failure.BAD_REQUEST, Failure.NOT_IMPLEMENTED)
"""Failures after which another server might see the end of the request elsewhere."""


class GatewayResponses:
    """Writes the gateway's own responses, each with the headers that all of them carry."""

    def __init__(self, name: str, cors: CorsPolicy) -> None:
        """`name` is the gateway's own, for Proxy-Status."""
        self._name = name
        self._cors = cors
        self._native_heads: dict[tuple[int, str, str | None, bool], bytes] = {}
        error_page()  # read now, so that no request waits for the disk

    def __repr__(self) -> str:
        return f"<GatewayResponses of {self._name}>"

    def use_cors(self, cors: CorsPolicy) -> None:
        """Follow this policy from now on."""
        self._cors = cors
        self._native_heads.clear()

    def problem_bytes(
        self,
        problem: Problem,
        accept: bytes | None = None,
        *,
        request_id: str,
        origin: str | None = None,
        minor: int = 1,
        keep_alive: bool = False,
        with_body: bool = True,
        language: Callable[[], str] = lambda: "en",
        added: Mapping[str, str] | None = None,
    ) -> bytes:
        """The whole response for `problem`, to a client of HTTP/1.`minor` that sent these Accept and Origin values.

        `added` are further header fields, unless the problem has them.
        """
        rendered = render(problem, accept, request_id=request_id, language=language)
        headers = {
            **(added or {}),
            "Content-Type": rendered.content_type,
            **rendered.headers,
            **self._cors.headers(origin),
            "Vary": f"{rendered.headers['Vary']}, Origin",
            "Server": SERVER,
            "Proxy-Status": problem.proxy_status(self._name),
        }
        return response_bytes(
            rendered.status, headers, rendered.body, minor=minor, keep_alive=keep_alive, with_body=with_body
        )

    def refuse(
        self, problem: Problem, request: Request, inbound: InboundRequest, record: RequestRecord, *, keep_alive: bool
    ) -> SentResponse:
        """Send `problem` and note it in `record`. Raises `ConnectionError` once the client has gone.

        The connection stays open only if `keep_alive`, and if the end of the request is certain and has arrived.
        """
        record.status, record.error, record.detail = problem.status, problem.failure.error, problem.detail
        is_whole = request.content.is_eof()
        keep_alive = keep_alive and inbound.is_framed and problem.failure not in _UNCERTAIN and is_whole
        transport = request.protocol.transport
        if transport is None:
            raise ConnectionResetError("the client has gone")
        transport.write(
            self.problem_bytes(
                problem,
                inbound.accept,
                request_id=record.request_id,
                origin=inbound.origin,
                minor=inbound.minor,
                keep_alive=keep_alive,
                with_body=inbound.method != "HEAD",
                language=partial(_language_of, inbound),
                added=record.admitted.fields if record.admitted is not None else None,
            )
        )
        if not keep_alive and not is_whole and transport.can_write_eof():
            # The client may still be sending its body: that is read, within a bound, so that it gets the response.
            transport.write_eof()
        return SENT_STAYS if keep_alive else SENT_CLOSES

    def listed_origin(self, inbound: InboundRequest) -> str | None:
        """The Origin of a request, where that is a listed one."""
        origin = inbound.origin
        return origin if self._cors.allows(origin) else None

    def native_head(
        self,
        status: int,
        content_type: str,
        length: int,
        *,
        request_id: str,
        origin: str | None,
        keep_alive: bool,
        added: bytes = b"",
    ) -> bytes:
        """The head of a native handler's response to a request of HTTP/1.1, with all headers of `set_headers`.

        Both the status and `content_type` are the gateway's own, one of few. `origin` is as `listed_origin` gives it.
        `added` are further lines.
        """
        key = (status, content_type, origin, keep_alive)
        start = self._native_heads.get(key)
        if start is None:
            start = self._native_heads[key] = self._native_start(*key)
        ids = b"X-Request-ID: %b\r\nX-Correlation-Id: %b\r\n" % ((request_id.encode(),) * 2)
        return b"%b%b%b%bContent-Length: %d\r\n\r\n" % (start, date_line(), ids, added, length)

    def _native_start(self, status: int, content_type: str, origin: str | None, keep_alive: bool) -> bytes:
        """The lines of a native response's head that are the same each time."""
        fields = {"Content-Type": content_type, "Server": SERVER, "Vary": "Origin", **self._cors.headers(origin)}
        fields = {**fields, **safe_headers(), **({} if keep_alive else {"Connection": "close"})}
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *(f"{name}: {fields[name]}" for name in fields)]
        return "".join([f"{line}\r\n" for line in lines]).encode("latin-1")

    def send(
        self,
        status: int,
        headers: Mapping[str, str],
        request: Request,
        inbound: InboundRequest,
        record: RequestRecord,
        *,
        keep_alive: bool,
        body: bytes = b"",
    ) -> SentResponse:
        """Send a response that is no refusal, and note it in `record`. Raises `ConnectionError` as `refuse` does."""
        record.status, record.sent, record.is_own = status, len(body), True
        ids = {"X-Request-ID": record.request_id, "X-Correlation-Id": record.request_id}
        transport = request.protocol.transport
        if transport is None:
            raise ConnectionResetError("the client has gone")
        limits = {} if record.admitted is None else record.admitted.fields
        added = {**self._cors.headers(inbound.origin), **limits, **headers, **ids}
        transport.write(response_bytes(status, added, body, minor=inbound.minor, keep_alive=keep_alive))
        return SENT_STAYS if keep_alive else SENT_CLOSES
