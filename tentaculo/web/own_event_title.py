"""What one of the gateway's own events says, in one sentence of each language. Pure.

Each type that docs/events.md lists has a sentence. An event may be one of another version, without its members.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from tentaculo.model.event import Event
from tentaculo.model.health import Health, state_name
from tentaculo.model.text import printable
from tentaculo.web import wording
from tentaculo.web.languages import Language

_BREAKERS: Final = {
    "closed": "events.breaker_closed",
    "open": "events.breaker_open",
    "half_open": "events.breaker_half_open",
}
"""By state of a circuit breaker, the key of its text."""
_ACTIONS: Final = {
    "note": "events.did_note",
    "acknowledge": "events.did_acknowledge",
    "mute": "events.did_mute",
    "maintain": "events.did_maintain",
    "change_maintenance": "events.did_change_maintenance",
    "end_maintenance": "events.did_end_maintenance",
}
"""By what a caller has done, the key of its text."""
_PLAIN: Final = {
    "gateway.alert.failed": ("events.not_notified", "channel"),
    "gateway.alert.sent": ("events.notified", "channel"),
    "gateway.clock.right": ("events.clock_right", "service"),
    "gateway.clock.wrong": ("events.clock_wrong", "service"),
    "gateway.configuration.rejected": ("events.configuration_rejected", ""),
    "gateway.configuration.reloaded": ("events.configuration_reloaded", ""),
    "gateway.health.warning": ("events.warning_began", "service"),
    "gateway.health.warning_ended": ("events.warning_ended", "service"),
    "gateway.incident.acknowledged": ("events.acknowledged", ""),
    "gateway.incident.ended": ("events.incident_ended", "service"),
    "gateway.incident.opened": ("events.incident_began", "service"),
    "gateway.lease.taken": ("events.lease_taken", "holder"),
    "gateway.rotation.counted": ("events.rotation_counted", "service"),
    "gateway.started": ("events.started", ""),
    "gateway.stopping": ("events.stopping", ""),
    "gateway.token.expired": ("events.token_expired", "token"),
    "gateway.tokens.changed": ("events.tokens_changed", ""),
    "gateway.tokens.rejected": ("events.tokens_rejected", ""),
}
"""By type, the key of its text, and the member of the payload that the text names."""


def title(event: Event, t: Language) -> str:
    """The sentence of one of the gateway's own events; empty where it is of no known type, or lacks what it is about."""
    if (made := _MADE.get(event.type)) is not None:
        return made(event, t)
    if (plain := _PLAIN.get(event.type)) is None:
        return ""
    key, member = plain
    value = _word(event.payload, member)
    if not member:
        return t(key)
    return t(key, **{member: value}) if value else ""


def _word(payload: Mapping[str, Any], member: str) -> str:
    """A member that is a text, in one line; empty where it is none."""
    value = payload.get(member)
    return printable(value, 80) if isinstance(value, str) else ""


def _health_changed(event: Event, t: Language) -> str:
    service, after = _word(event.payload, "service"), event.payload.get("after")
    health = next((one for one in Health if one.value == after), None)
    if not service or health is None:
        return ""
    return t("events.is_so", service=service, is_so=wording.predicate(state_name(health), 1, t))


def _breaker_changed(event: Event, t: Language) -> str:
    service, state = _word(event.payload, "service"), _word(event.payload, "state")
    said = t(_BREAKERS[state]) if state in _BREAKERS else state or t("events.unknown")
    return t("events.breaker_is", service=service, state=said) if service else ""


def _incident_muted(event: Event, t: Language) -> str:
    """A mute until a time that has come takes a mute back."""
    until = _moment(event.payload.get("until"))
    is_over = until is not None and until <= event.received_at
    return t("events.unmuted" if is_over else "events.muted")


def _caller_acted(event: Event, t: Language) -> str:
    key = _ACTIONS.get(_word(event.payload, "action"))
    return t(key, who=_word(event.payload, "caller") or t("events.somebody")) if key else ""


def _configuration_loaded(event: Event, t: Language) -> str:
    services = event.payload.get("services")
    return t("events.configuration_loaded", count=len(services)) if isinstance(services, list) else ""


def _configuration_changed(event: Event, t: Language) -> str:
    who, subject = _word(event.payload, "by") or t("events.somebody"), _word(event.payload, "subject")
    if not subject:
        # What it was about is lost with the process that was killed.
        return t("events.configuration_changed_somehow", who=who)
    return t("events.configuration_changed", who=who, what=subject)


def _requests_limited(event: Event, t: Language) -> str:
    """Requests without a service are for paths of the gateway itself."""
    service = _word(event.payload, "service") or t("events.the_gateway")
    return t("events.requests_limited", service=service)


def _moment(value: object) -> datetime | None:
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return found if found is not None and found.tzinfo else None


_MADE: Final[Mapping[str, Callable[[Event, Language], str]]] = {
    "gateway.breaker.changed": _breaker_changed,
    "gateway.caller.acted": _caller_acted,
    "gateway.configuration.changed": _configuration_changed,
    "gateway.configuration.loaded": _configuration_loaded,
    "gateway.health.changed": _health_changed,
    "gateway.incident.muted": _incident_muted,
    "gateway.requests.limited": _requests_limited,
}
"""By type, what makes its sentence, where that depends on more than one member."""
