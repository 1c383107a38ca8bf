"""One event of the log in words: a title, its members in a readable form, and its JSON. Pure.

Everything that came from outside is made printable and cut to size here, and escaped by the template.
"""

from __future__ import annotations

import json
from typing import Any, Final, NamedTuple

import msgspec

from tentaculo.model.event import Event
from tentaculo.model.health import GATEWAY_NAME, Health, state_name
from tentaculo.model.reason import Reason
from tentaculo.model.text import printable
from tentaculo.web import own_event_title, wording
from tentaculo.web.languages import Language
from tentaculo.web.viewer import OF_THE_OPERATOR

MOST_MEMBERS: Final = 12
"""Members of a payload that are shown one by one."""
LONGEST_VALUE: Final = 160
MOST_JSON: Final = 3000
"""Characters of the whole event that are shown."""
PUBLIC_TYPES: Final = (
    "gateway.health.changed",
    "gateway.incident.opened",
    "gateway.incident.ended",
    "gateway.incident.acknowledged",
)
"""Own events of the gateway that everybody may see, without what a service said and who did something."""
_HIDDEN: Final = frozenset(
    ("timestamp", "instance", "worker", "epoch", "reason_code", "reason_values", "ending_code", "ending_values")
)
"""Members of own events that say nothing new beside their time, their reason and their ending."""
_ALARMING: Final = frozenset(("critical", "error", "high", "fatal", "alert", "emergency"))
_SIGNS: Final = {
    "gateway.incident.ended": ("up", "up"),
    "gateway.incident.opened": ("down", "down"),
    "gateway.incident.acknowledged": ("note", "off"),
    "gateway.alert.sent": ("bell", "off"),
    "gateway.alert.failed": ("bell", "down"),
}
"""By type, the symbol of an event and its tone."""


class Member(NamedTuple):
    """One member of a payload."""

    name: str
    value: str


def is_own(event: Event) -> bool:
    """Whether the gateway itself recorded it."""
    return event.source == GATEWAY_NAME


def is_alarming(event: Event) -> bool:
    """Whether its severity says that something failed."""
    severity = event.severity or event.payload.get("severity")  # rows of older versions have it in the payload alone
    return isinstance(severity, str) and severity.lower() in _ALARMING


def sign(event: Event) -> tuple[str, str]:
    """The symbol of an event, and its tone."""
    if is_own(event) and event.type in _SIGNS:
        return _SIGNS[event.type]
    if is_own(event) and (after := _health(event.payload.get("after"))) is not None:
        key = state_name(after)
        return key, wording.TONES[key]
    return "event", "down" if is_alarming(event) else "accent"


def title(event: Event, t: Language) -> str:
    """What happened, in one sentence where it is one of the gateway's own events; else the type."""
    return (own_event_title.title(event, t) if is_own(event) else "") or printable(event.type, 120)


def service_of(event: Event) -> str:
    """The service that an own event of the gateway is about; empty where it names none."""
    service = event.payload.get("service")
    return service if is_own(event) and isinstance(service, str) else ""


def public_reason(event: Event, t: Language) -> str:
    """Why, in an own event of the gateway, as everybody may see it: without a text of a service, or empty."""
    if not is_own(event):
        return ""
    if _health(event.payload.get("after")) in OF_THE_OPERATOR:
        reason = event.payload.get("reason")
        return wording.foreign(reason, LONGEST_VALUE) if isinstance(reason, str) else ""
    name = "ending" if event.type == "gateway.incident.ended" else "reason"
    return wording.said("", wording.public(_cause(event, name)), t, LONGEST_VALUE)


def private_reason(event: Event, t: Language) -> str:
    """Why, in an own event of the gateway, for who is signed in; empty where the event has no code of a reason."""
    name = _reason_member(event)
    return wording.said(_text(event, name), _cause(event, name), t, LONGEST_VALUE) if name else ""


def _reason_member(event: Event) -> str:
    """Which member of an own event says why, where its words can be made from a code; else empty."""
    name = "ending" if event.type == "gateway.incident.ended" else "reason"
    return name if is_own(event) and _cause(event, name) is not None else ""


def _text(event: Event, name: str) -> str:
    value = event.payload.get(name)
    return value if isinstance(value, str) else ""


def _cause(event: Event, name: str) -> Reason | None:
    """The code and the values of a reason, if they have the form of one."""
    code, values = event.payload.get(f"{name}_code"), event.payload.get(f"{name}_values")
    return Reason("", code, values) if isinstance(code, str) and code and isinstance(values, dict) else None


def incident_of(event: Event) -> int | None:
    """The incident that an own event of the gateway is about."""
    number = event.payload.get("incident")
    return number if is_own(event) and isinstance(number, int) and not isinstance(number, bool) else None


def members(event: Event, t: Language) -> tuple[list[Member], int]:
    """The first members of the payload, and how many more there are; without what `private_reason` says."""
    said = _reason_member(event)
    shown = [
        (name, value)
        for name, value in event.payload.items()
        if not (is_own(event) and (name in _HIDDEN or name == said))
    ]
    found = [Member(printable(name, 40), _value(value, t)) for name, value in shown[:MOST_MEMBERS]]
    return found, max(len(shown) - MOST_MEMBERS, 0)


def whole_json(event: Event) -> tuple[str, int]:
    """The beginning of an event as indented JSON, and how many characters are left out."""
    shape: dict[str, Any] = {
        "event_id": event.id,
        "source": event.source,
        "type": event.type,
        "payload": event.payload,
        **({"metadata": event.metadata} if event.metadata else {}),
    }
    text = _json(shape, indent=2)
    return "\n".join(map(_visible, text[:MOST_JSON].split("\n"))), max(len(text) - MOST_JSON, 0)


def _value(value: object, t: Language) -> str:
    if isinstance(value, str):
        return printable(value, LONGEST_VALUE) or t("events.empty")
    return printable(_json(value), LONGEST_VALUE)


def _json(value: object, indent: int = 0) -> str:
    try:
        encoded = msgspec.json.encode(value)
        return (msgspec.json.format(encoded, indent=indent) if indent else encoded).decode()
    except (UnicodeEncodeError, OverflowError):
        # A lone surrogate, or an integer of more than 64 bits, which rows of older versions have.
        return json.dumps(value, indent=indent or None)


def _visible(line: str) -> str:
    """A line with its unprintable characters as JSON escapes: they could change the order of what is read."""
    if line.isprintable():
        return line
    return "".join(map(_escaped, line))


def _escaped(character: str) -> str:
    return character if character.isprintable() else json.dumps(character)[1:-1]


def _health(value: object) -> Health | None:
    return next((one for one in Health if one.value == value), None)
