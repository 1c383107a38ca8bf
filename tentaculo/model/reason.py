"""Why a service has its health: an English sentence that knows its code and values, so that it can be translated. Pure.

What a service said itself, and what has no code, is a value as it came.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Self

import msgspec

from tentaculo.model.text import format_time

TEXTS: Final[Mapping[str, str]] = {
    # An attempt of a probe, or of a request.
    "answered": "answered {status}",
    "answered_but": "answered {status}, but {what}",
    "answered_unfinished": "answered {status}, but did not finish within {seconds} s",
    "no_connection_within": "could not connect within {seconds} s",
    "no_response_within": "no response within {seconds} s",
    "connection_refused": "connection refused",
    "connection_reset": "connection reset",
    "connect_timed_out": "could not connect in time",
    "cannot_connect": "could not connect",
    "host_unreachable": "host unreachable",
    "network_unreachable": "network unreachable",
    "name_not_found": "name not found",
    "name_server_silent": "name not found: the name server did not answer",
    "invalid_address": "its address is not valid",
    "no_response_in_time": "no response in time",
    "stopped_sending": "stopped sending in the middle of its response",
    "closed_early": "closed the connection before it responded",
    "ended_early": "the response ended too soon",
    "head_too_large": "the head of its response is too large",
    "invalid_http": "its response is not valid HTTP: {what}",
    "certificate_refused": "its certificate is not accepted: {what}",
    "tls_failed": "the secure connection failed",
    "tls_failed_because": "the secure connection failed: {what}",
    "tls_ended": "the connection ended during the handshake",
    "no_websocket": "answered 101, but not as a WebSocket",
    "no_heartbeat_for": "no heartbeat for {seconds} s",
    # A response.
    "took": "{what} in {milliseconds} ms",
    "faulty": "{what}, but {faults}",
    "calls_itself": "calls itself {word}",
    "slower_than": "slower than {seconds} s",
    "without_text": "without the text {text}",
    "without_match": "without a match of {pattern}",
    "without_json": "without JSON",
    "value_missing": "{place} is missing",
    "value_is": "{place} is {value}",
    "value_is_not": "{place} is {value}, not {expected}",
    "unknown_coding": "its body has the content coding {coding}, which cannot be read",
    "not_decompressed": "its body cannot be decompressed ({coding})",
    "check_token": "check the service's token",
    "body_cut": "longer than what is read of it",
    "certificate_expired": "its certificate expired on {date}",
    "certificate_expires": "its certificate is valid for {left} only",
    "issuer_expired": "the certificate of its issuer expired on {date}",
    "issuer_expires": "the certificate of its issuer is valid for {left} only",
    # All attempts of a probe.
    "failed_at": "{what} at {paths}",
    "several": "{parts}",
    # Several probes, and requests.
    "not_probed": "not probed yet",
    "part_failed": "{failed} of its last {probes} probes failed: {what}",
    "unconfirmed": "{what} ({count} of {needed} in a row before it counts as {health})",
    "unconfirmed_after": "{before}, then {what} ({count} of {needed} in a row before it counts as {health})",
    "before_restart": "{what} (before the restart)",
    "breaker_open": "requests failed ({what})",
    "requests_failed": "{failed} of {requests} requests within {seconds} s failed",
    "requests_slower_than_usual": "95 % of its requests take up to {milliseconds} ms, usually {usual} ms",
    "requests_over_limit": "95 % of its requests take up to {milliseconds} ms, and {limit} ms is its limit",
    "requests_failed_and": "{what}, and {probes}",
    "requests_failed_though": "{what}, though its probes pass: {probes}",
    "requests_passed_though": "{passed} of {requests} requests within {seconds} s passed, though its probes fail: {probes}",
    # The circuit breaker.
    "trial_failed": "the trial failed",
    "trial_failed_because": "the trial failed: {what}",
    "one_failure": "1 failure",
    "one_failure_because": "1 failure: {what}",
    "failures_in_a_row": "{count} failures in a row",
    "failures_in_a_row_because": "{count} failures in a row: {what}",
    "requests_failed_because": "{failed} of {requests} requests within {seconds} s failed: {what}",
    # Several addresses.
    "all_down": "all {total} addresses are down: {what}",
    "one_down": "1 of {total} addresses is down: {what}",
    "some_down": "{count} of {total} addresses are down: {what}",
    "one_degraded": "1 of {total} addresses is degraded: {what}",
    "some_degraded": "{count} of {total} addresses are degraded: {what}",
    "others_unknown": "the others are not known yet",
    "all_up": "all {total} addresses are up",
    "one_up": "1 of {total} addresses is up, the others are not known yet",
    "some_up": "{count} of {total} addresses are up, the others are not known yet",
    # What is not found by a probe or a request.
    "requests_decide": "not probed; its requests decide",
    "responds_again": "it responds again",
    "clock_set": "{what} (the system clock was set)",
    "off_on_purpose": "off on purpose",
    "off_until": "{stated}, until {time}",
    "planned_maintenance": "planned maintenance",
    "maintenance_until": "{stated}, until {time}",
    "stated": "{stated}",
    # How an incident ended.
    "recovered": "It is healthy again: {what}",
    "recovered_unseen": "Healthy when the gateway started; last seen failing at {time}, not monitored in between.",
    "probes_pass": "Its probes pass, and no request has reached it since: {what}",
    "switched_off": "It was switched off: {what}",
    "removed": "The service was removed from the configuration.",
    "begun_before_restart": "It had begun before the gateway was restarted: incident {id}.",
    "explained_by": "Explained by the failure of {root}: incident {id}.",
}
"""The English text of each code. In braces stand the values; a list is joined by semicolons."""
_OWN_TEXTS: Final = frozenset(("date", "expected", "health", "left", "paths", "place", "root", "stated", "time"))
"""The values that are texts of the gateway, of its configuration or its operator. Each other text may be one of a service."""
MOST_LENGTH: Final = 4000
"""Characters of encoded values that are kept; of a reason with more, its text only."""


class Reason(str):
    """A sentence in English, with the code and the values that it was made of.

    Whatever cuts or joins it gets a plain text. As msgspec encodes no kinds of text but `str` itself, it is made plain
    where it leaves `health` and `upstream`.
    """

    __slots__ = ("code", "values")

    code: str
    values: Mapping[str, Any]
    """By name: numbers, text as it came, further reasons, and lists of these."""

    def __new__(cls, text: str, code: str = "", values: Mapping[str, Any] | None = None) -> Self:
        """`text` is what `code` and `values` make."""
        made = super().__new__(cls, text)
        made.code, made.values = code, values or {}
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return Reason, (str(self), self.code, self.values)

    @property
    def public(self) -> Reason:
        """The same, with an ellipsis in place of each text that a service may have said."""
        return because(self.code, **{name: _public(name, value) for name, value in self.values.items()})

    def plain_values(self) -> dict[str, Any]:
        """The values as JSON has them: a reason among them is `{"code", "values"}`."""
        plain: dict[str, Any] = _plain(self.values)
        return plain

    def encode_values(self) -> str:
        """The values as JSON."""
        return msgspec.json.encode(self.plain_values()).decode()

    @property
    def is_short(self) -> bool:
        """Whether the values have no more than `MOST_LENGTH` characters."""
        return len(self.encode_values()) <= MOST_LENGTH

    @classmethod
    def decode(cls, text: str, code: str | None, values: str | None) -> Self | None:
        """The reason whose text, code and encoded values were stored; None where there is no code, or no such values."""
        if not code or values is None:
            return None
        try:
            return cls(text, code, msgspec.json.decode(values, type=dict[str, Any]))
        except (msgspec.MsgspecError, RecursionError):
            return None


def coded(name: str, reason: Reason | None) -> dict[str, Any]:
    """The members `<name>_code` and `<name>_values` of a JSON shape; None where there is the text only."""
    if reason is None or not reason.code:
        return {f"{name}_code": None, f"{name}_values": None}
    return {f"{name}_code": reason.code, f"{name}_values": reason.plain_values()}


def because(code: str, **values: Any) -> Reason:
    """The reason of a code of `TEXTS`. A moment is the value `time`, in ISO 8601."""
    shown = values.copy()
    for name, value in values.items():
        if isinstance(value, (list, float)) or name == "time":
            shown[name] = _shown(name, value)
    return Reason(TEXTS[code].format_map(shown), code, values)


def stated(text: str, default: str) -> Reason:
    """A reason that the configuration or an operator states; `default` is a code, whose text is ours."""
    return because(default) if text == TEXTS[default] else because("stated", stated=text)


def _shown(name: str, value: Any) -> Any:
    if isinstance(value, list):
        return "; ".join(value)
    return format_time(datetime.fromisoformat(value)) if name == "time" else f"{value:g}"


def _plain(value: Any) -> Any:
    """`value` as JSON has it: a reason becomes `{"code", "values"}`."""
    if isinstance(value, Reason):
        return {"code": value.code, "values": _plain(value.values)} if value.code else str(value)
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    # Half of a surrogate pair cannot be encoded.
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def _public(name: str, value: Any) -> Any:
    if isinstance(value, list):
        return [_public(name, one) for one in value]
    if isinstance(value, Reason) and value.code:
        return value.public
    if isinstance(value, Mapping):
        # A reason as it was stored, maybe by a later version.
        try:
            return Reason("", value["code"], value["values"]).public
        except (LookupError, AttributeError):
            return "…"
    return "…" if isinstance(value, str) and name not in _OWN_TEXTS else value
