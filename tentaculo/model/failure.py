"""The closed set of failures of a request, and the response for each of them.

Each failure names its stage and its side: client, upstream or gateway. The gateway's own error response is a `Problem`
(RFC 9457) with two more members of the 7.0 gateway, `error` and `status_code`. It never contains an upstream's address.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple

import msgspec

from tentaculo.model.health import Outcome
from tentaculo.model.reason import because


class Blame(Enum):
    """The side that caused a failure. The circuit breaker counts only those of the upstream."""

    CLIENT = "client"
    UPSTREAM = "upstream"
    GATEWAY = "gateway"


class _FailureInfo(NamedTuple):
    status: int
    error: str
    title: str
    blame: Blame
    proxy_status: str
    """Error token of RFC 9209 section 2.3; empty for a failure without a response."""


_C, _U, _G = Blame.CLIENT, Blame.UPSTREAM, Blame.GATEWAY


class Failure(Enum):
    """Everything that can go wrong with a request, by stage."""

    # The request itself.
    BAD_REQUEST = _FailureInfo(400, "bad_request", "The request is malformed", _C, "http_request_error")
    BAD_TARGET = _FailureInfo(400, "bad_target", "The request target is not acceptable", _C, "http_request_error")
    AUTH_REQUIRED = _FailureInfo(401, "auth_required", "A token is required", _C, "http_request_denied")
    FORBIDDEN = _FailureInfo(403, "forbidden", "The token is not valid", _C, "http_request_denied")
    MISSING_SCOPE = _FailureInfo(403, "forbidden", "The token does not have the scope", _C, "http_request_denied")
    ORIGIN_DENIED = _FailureInfo(
        403, "origin_denied", "Pages of this origin are not allowed here", _C, "http_request_denied"
    )
    FORM_OF_ANOTHER_SESSION = _FailureInfo(
        403, "form_of_another_session", "The form is of another sign-in", _C, "http_request_denied"
    )
    NETWORK_DENIED = _FailureInfo(
        403, "network_denied", "Clients of this network may not use this", _C, "http_request_denied"
    )
    NOT_FOUND = _FailureInfo(404, "not_found", "Nothing is served at this path", _C, "destination_not_found")
    METHOD_NOT_ALLOWED = _FailureInfo(
        405, "method_not_allowed", "The method is not allowed here", _C, "http_request_error"
    )
    REQUEST_TIMEOUT = _FailureInfo(
        408, "request_timeout", "The request did not arrive in time", _C, "http_request_error"
    )
    EVENT_CONFLICT = _FailureInfo(
        409, "event_conflict", "An event with this key and another content is stored", _C, "http_request_error"
    )
    SET_BY_ENVIRONMENT = _FailureInfo(
        409, "set_by_environment", "The environment overrides what was to change", _C, "http_request_error"
    )
    CHANGES_FAULTY = _FailureInfo(
        409, "changes_faulty", "The file of changes cannot be changed as it is", _C, "http_request_error"
    )
    INCIDENT_OVER = _FailureInfo(409, "incident_over", "The incident is over", _C, "http_request_error")
    GENERATION_CHANGED = _FailureInfo(
        412, "generation_changed", "The configuration has changed since", _C, "http_request_error"
    )
    BODY_TOO_LARGE = _FailureInfo(413, "body_too_large", "The request body is too large", _C, "http_request_error")
    TARGET_TOO_LONG = _FailureInfo(414, "target_too_long", "The request target is too long", _C, "http_request_error")
    UNSUPPORTED_MEDIA_TYPE = _FailureInfo(
        415, "unsupported_media_type", "The media type is not supported", _C, "http_request_error"
    )
    INVALID_EVENT = _FailureInfo(
        422, "schema_validation_failed", "The event does not fit its schema", _C, "http_request_error"
    )
    CONFIGURATION_REJECTED = _FailureInfo(
        422, "configuration_rejected", "The configuration has faults", _C, "http_request_error"
    )
    UPGRADE_REQUIRED = _FailureInfo(426, "upgrade_required", "This path is a WebSocket", _C, "http_request_error")
    IF_MATCH_REQUIRED = _FailureInfo(
        428, "if_match_required", "The request must say which configuration it changes", _C, "http_request_error"
    )
    RATE_LIMITED = _FailureInfo(
        429, "rate_limited", "More requests have come than the limit allows", _C, "http_request_denied"
    )
    TOO_MANY_AT_ONCE = _FailureInfo(
        429, "too_many_at_once", "As many requests are in flight as the limit allows", _C, "http_request_denied"
    )
    HEADERS_TOO_LARGE = _FailureInfo(
        431, "headers_too_large", "The request headers are too large", _C, "http_request_error"
    )
    CLIENT_LEFT = _FailureInfo(499, "client_left", "The client closed the connection", _C, "")
    # The choice of an endpoint.
    SERVICE_OFF = _FailureInfo(503, "service_off", "The service is off on purpose", _G, "destination_unavailable")
    CIRCUIT_OPEN = _FailureInfo(
        503, "circuit_open", "The service has failed; requests are paused", _G, "destination_unavailable"
    )
    OVERLOADED = _FailureInfo(503, "overloaded", "A limit of the gateway is reached", _G, "connection_limit_reached")
    CONCURRENCY_LIMIT = _FailureInfo(
        503,
        "concurrency_limit",
        "The service has as many requests in flight as it can take",
        _G,
        "connection_limit_reached",
    )
    EXHAUSTED = _FailureInfo(
        503, "gateway_exhausted", "The gateway lacks file descriptors or memory", _G, "connection_limit_reached"
    )
    STARTING = _FailureInfo(503, "starting", "The gateway is starting", _G, "proxy_internal_response")
    STOPPING = _FailureInfo(503, "stopping", "The gateway is stopping", _G, "connection_terminated")
    LOOP = _FailureInfo(508, "loop_detected", "The request came back to this gateway", _G, "proxy_loop_detected")
    # The connection.
    DNS_FAILED = _FailureInfo(502, "dns_failed", "The service's name was not found", _U, "dns_error")
    CONNECT_REFUSED = _FailureInfo(502, "connect_failed", "The service cannot be reached", _U, "connection_refused")
    CONNECT_TIMEOUT = _FailureInfo(
        504, "connect_timeout", "The service did not accept the connection in time", _U, "connection_timeout"
    )
    TLS_FAILED = _FailureInfo(
        502, "tls_failed", "The secure connection to the service failed", _U, "tls_protocol_error"
    )
    # The response.
    CONNECTION_LOST = _FailureInfo(
        502, "connection_lost", "The service closed the connection before it responded", _U, "connection_terminated"
    )
    BAD_RESPONSE = _FailureInfo(
        502, "bad_response", "The service's response is not valid HTTP", _U, "http_protocol_error"
    )
    RESPONSE_HEAD_TOO_LARGE = _FailureInfo(
        502,
        "response_head_too_large",
        "The headers of the service's response are too large",
        _U,
        "http_response_header_section_size",
    )
    FIRST_BYTE_TIMEOUT = _FailureInfo(
        504, "upstream_timeout", "The service did not respond in time", _U, "http_response_timeout"
    )
    BODY_CUT = _FailureInfo(
        502, "response_incomplete", "The service's response ended too soon", _U, "http_response_incomplete"
    )
    IDLE_TIMEOUT = _FailureInfo(
        504, "upstream_idle", "The service stopped sending in the middle of its response", _U, "http_response_timeout"
    )
    # The gateway.
    STORE_UNAVAILABLE = _FailureInfo(
        503, "store_unavailable", "The database is not available", _G, "proxy_internal_error"
    )
    CHANGES_NOT_KEPT = _FailureInfo(503, "changes_not_kept", "The change cannot be kept", _G, "proxy_internal_error")
    NOT_IMPLEMENTED = _FailureInfo(501, "not_implemented", "This is not supported", _G, "proxy_internal_response")
    HTTP_VERSION = _FailureInfo(
        505, "http_version_not_supported", "Only HTTP/1.0 and HTTP/1.1 are supported", _G, "proxy_internal_response"
    )
    INTERNAL = _FailureInfo(500, "internal_error", "The gateway failed", _G, "proxy_internal_error")

    @property
    def status(self) -> int:
        """The HTTP status of its response; 499 is only logged."""
        return self.value.status

    @property
    def error(self) -> str:
        """Its machine-readable word."""
        return self.value.error

    @property
    def title(self) -> str:
        """One sentence for people, without a full stop."""
        return self.value.title

    @property
    def blame(self) -> Blame:
        """The side that caused it."""
        return self.value.blame

    @property
    def proxy_status(self) -> str:
        """The RFC 9209 error token; empty for a failure without a response."""
        return self.value.proxy_status


@dataclass(eq=False)
class Problem(Exception):
    """An error response of the gateway itself. Raise it from a native handler, or return it from a pure function."""

    failure: Failure
    detail: str | None = None
    """What happened to this request, in a sentence. Never an upstream's address, a token, or unescaped client bytes."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Further members of the JSON object."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Further response headers: Retry-After, WWW-Authenticate, Allow."""
    proxy_details: str = ""
    """Why, for Proxy-Status: printable ASCII without quotes and backslashes."""

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.failure.status

    def proxy_status(self, name: str) -> str:
        """The value of Proxy-Status (RFC 9209), which marks the response as one of the gateway called `name`."""
        details = f'; details="{self.proxy_details}"' if self.proxy_details else ""
        return f"{name}; error={self.failure.proxy_status}{details}"

    def members(self) -> dict[str, Any]:
        """The members of the problem object: those of RFC 9457 section 3.1, and two of the 7.0 gateway."""
        members: dict[str, Any] = {
            "type": "about:blank",
            "title": self.failure.title,
            "status": self.failure.status,
            "error": self.failure.error,
            "status_code": self.failure.status,
        }
        if self.detail:
            members["detail"] = self.detail
        members.update(self.extra)
        return members

    def to_json(self) -> bytes:
        """The body as `application/problem+json`."""
        return msgspec.json.encode(self.members())


class UpstreamError(Exception):
    """An exchange ended without its whole response.

    `failure` says at which stage and whose it is; `detail` is for people and names no address. `untouched` is true
    when the connection died before any byte of the response, so that the request may be tried again where that is safe.
    `untaken` is true when it is certain that the upstream has not received any byte of the request either. `code` is
    that of the reason, where the failure alone does not say it.
    """

    def __init__(
        self, failure: Failure, detail: str, *, untouched: bool = False, untaken: bool = False, code: str = ""
    ) -> None:
        super().__init__(detail)
        self.failure = failure
        self.detail = detail
        self.untouched = untouched
        self.untaken = untaken
        self._code = code or _REASONS.get(failure, "")

    @property
    def reason(self) -> str:
        """Why, with its code and values where the service failed."""
        if not self._code:
            return self.detail
        return because(self._code, what=self.detail) if self._code == "invalid_http" else because(self._code)

    def copy(self) -> UpstreamError:
        """A copy without a traceback, to keep or to raise again: a traceback holds frames, and through them its owner."""
        return UpstreamError(self.failure, self.detail, untouched=self.untouched, untaken=self.untaken, code=self._code)


_REASONS = {
    Failure.DNS_FAILED: "name_not_found",
    Failure.CONNECT_REFUSED: "cannot_connect",
    Failure.CONNECT_TIMEOUT: "connect_timed_out",
    Failure.TLS_FAILED: "tls_failed",
    Failure.CONNECTION_LOST: "closed_early",
    Failure.BAD_RESPONSE: "invalid_http",
    Failure.RESPONSE_HEAD_TOO_LARGE: "head_too_large",
    Failure.FIRST_BYTE_TIMEOUT: "no_response_in_time",
    Failure.BODY_CUT: "ended_early",
    Failure.IDLE_TIMEOUT: "stopped_sending",
}
"""The code of the reason of each failure of a service."""
_TIMEOUTS = frozenset((Failure.CONNECT_TIMEOUT, Failure.FIRST_BYTE_TIMEOUT, Failure.IDLE_TIMEOUT))


def outcome_of(status: int, breaking: frozenset[int] = frozenset()) -> tuple[Outcome, str]:
    """The outcome of a whole response, and its reason; empty for a success.

    A 5xx is an error of the service, and shows that it is alive, as a 4xx does. `breaking` are statuses that count as
    failures of the endpoint.
    """
    if status in breaking:
        return Outcome.FAILURE, because("answered", status=status)
    if status >= 500 and status != 501:
        return Outcome.SERVER_ERROR, because("answered", status=status)
    return Outcome.SUCCESS, ""


def outcome_of_error(failure: Failure) -> Outcome:
    """The outcome of an exchange without its whole response.

    A head that is too large for the gateway is an error of the service, and shows that it is alive.
    """
    if failure.blame is not Blame.UPSTREAM:
        return Outcome.NEUTRAL
    if failure is Failure.RESPONSE_HEAD_TOO_LARGE:
        return Outcome.SERVER_ERROR
    return Outcome.TIMEOUT if failure in _TIMEOUTS else Outcome.FAILURE
