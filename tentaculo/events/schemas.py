"""JSON in, bounded and strict, and what an event must hold, canonical ones in particular. Pure."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from enum import Enum, StrEnum
from functools import lru_cache
from itertools import accumulate
from typing import Any, NamedTuple

import msgspec

from tentaculo.model.health import GATEWAY_NAME

DEPTH = 64
"""Levels of nested lists and objects that are accepted. Every later encoder can then take what was accepted."""
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
"""One level deeper, or one less, as signed bytes."""
_NO_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")


class JsonError(Exception):
    """The text is not JSON that can be kept. `str()` says why, without a word of the text itself."""


def parse_json(data: bytes) -> Any:
    """The value of one JSON text.

    Stricter than the grammar where a value could not be handed on (RFC 7493): lone surrogates, numbers beyond a double
    and more than `DEPTH` levels are refused, as NaN and Infinity are. Of equal keys the last wins. Integers may be
    larger than 64 bits. Raises `JsonError`.
    """
    try:
        value = msgspec.json.decode(data)
    except RecursionError:
        raise JsonError(f"is nested more than {DEPTH} levels deep") from None
    except UnicodeError:
        raise JsonError("is not UTF-8") from None
    except msgspec.MsgspecError as error:
        raise JsonError(f"is not acceptable JSON: {error}") from None
    if may_be_too_deep(data) and _is_deeper_than(DEPTH, data):
        raise JsonError(f"is nested more than {DEPTH} levels deep")
    return value


def may_be_too_deep(data: bytes) -> bool:
    """Whether a JSON text may have more than `DEPTH` levels: each takes a bracket, and few texts have enough of them."""
    return data.count(b"{") + data.count(b"[") > DEPTH


def _is_deeper_than(limit: int, data: bytes) -> bool:
    """Whether a valid JSON text has more than `limit` levels. To walk through its value takes ten times as long."""
    steps = _STRING.sub(b"", data).translate(_STEPS, _NO_BRACKETS)
    return max(accumulate(memoryview(steps).cast("b")), default=0) > limit


def json_size(fields: Mapping[str, Any]) -> int:
    """Bytes of `fields` as compact UTF-8 JSON, however they were written."""
    return len(msgspec.json.encode(fields))


class Nature(StrEnum):
    """The kind of a canonical event."""

    INCIDENT = "incident"
    META = "meta"
    FORENSIC = "forensic"
    DECISION = "decision"
    STATE = "state"
    NARRATION = "narration"


def _is_integer(value: Any) -> bool:
    # bool is a subclass of int: isinstance let `true` pass in 7.0.
    return type(value) is int


def _is_number(value: Any) -> bool:
    return type(value) is int or (type(value) is float and math.isfinite(value))


class JsonKind(Enum):
    """The JSON kinds a field can be asked to have."""

    STRING = "a string", lambda value: isinstance(value, str)
    INTEGER = "an integer", _is_integer
    NUMBER = "a number", _is_number
    LIST = "a list", lambda value: isinstance(value, list)
    OBJECT = "an object", lambda value: isinstance(value, dict)
    BOOLEAN = "a boolean", lambda value: isinstance(value, bool)

    def __init__(self, phrase: str, accepts: Callable[[Any], bool]) -> None:
        self.phrase = phrase
        """With its article, for messages."""
        self.accepts = accepts
        """Whether a value is of this kind; no kind takes another's values, except that integers are numbers."""


def kind_phrase(value: Any) -> str:
    """What `value` is, with its article: `a boolean`, `null`, `a number with a fraction or exponent`."""
    if value is None:
        return "null"
    if isinstance(value, float):
        return "a number with a fraction or exponent" if math.isfinite(value) else "NaN or Infinity"
    for kind in (JsonKind.BOOLEAN, JsonKind.INTEGER, JsonKind.STRING, JsonKind.LIST, JsonKind.OBJECT):
        if kind.accepts(value):
            return kind.phrase
    return "something else"


class FieldError(NamedTuple):
    """One thing that is wrong with an event."""

    field: str
    message: str
    """Never holds the value itself, only what it is."""


def kind_fault(name: str, kind: JsonKind, fields: Mapping[str, Any]) -> FieldError | None:
    """What is wrong with the required field `name` of `fields`, or None."""
    if kind.accepts(fields.get(name)):
        return None  # no kind accepts null
    if name not in fields:
        return FieldError(name, "is required")
    return FieldError(name, f"must be {kind.phrase}, not {kind_phrase(fields[name])}")


class Schema(msgspec.Struct, frozen=True):
    """What a canonical event of one type must hold."""

    type: str
    nature: Nature
    max_bytes: int
    """Of the object that carries the fields, as compact UTF-8 JSON."""
    fields: Mapping[str, JsonKind]
    """Every one is required; others may be there too."""

    def faults(self, fields: Mapping[str, Any], *, size: int, whole: str) -> tuple[FieldError, ...]:
        """Everything that is wrong with `fields`, () when nothing is.

        `size` is that of the object as it came (`wire.size_of`), and `whole` the name under which too large a one is
        reported.
        """
        found = [kind_fault(name, kind, fields) for name, kind in self.fields.items()]
        if size > self.max_bytes:
            found.append(FieldError(whole, f"is {size} bytes of JSON; {self.type} may have {self.max_bytes}"))
        return tuple(fault for fault in found if fault is not None)


def _schema(type_: str, nature: Nature, max_bytes: int, **fields: JsonKind) -> Schema:
    return Schema(type_, nature, max_bytes, {**fields, "timestamp": JsonKind.INTEGER})


_TEXT, _NUMBER = JsonKind.STRING, JsonKind.NUMBER

CANONICAL: Mapping[str, Schema] = {
    schema.type: schema
    for schema in (
        _schema("system.alert", Nature.INCIDENT, 2048, alert_id=_TEXT, severity=_TEXT, message=_TEXT),
        _schema(
            "system.correlation.updated",
            Nature.META,
            2048,
            correlation_id=_TEXT,
            related_events=JsonKind.LIST,
            strength=_NUMBER,
        ),
        _schema("forensic.snapshot.created", Nature.FORENSIC, 1024, snapshot_id=_TEXT, reason=_TEXT),
        _schema(
            "madre.decision.explained", Nature.DECISION, 3072, decision_id=_TEXT, summary=_TEXT, confidence=_NUMBER
        ),
        _schema("switch.tension.updated", Nature.STATE, 1024, value=JsonKind.INTEGER, components=JsonKind.OBJECT),
        _schema("shub.action.narrated", Nature.NARRATION, 2048, action=_TEXT, reason=_TEXT, next_step=_TEXT),
    )
}
"""The canonical events, by type."""


def canonical_type(type_: Any) -> Schema | None:
    """The schema of a canonical type; None for every other type, and for what is no string."""
    return CANONICAL.get(type_) if isinstance(type_, str) else None


def validate(
    schema: Schema, fields: Mapping[str, Any], *, now_ms: int, whole: str
) -> tuple[dict[str, Any], tuple[FieldError, ...]]:
    """`fields` with the timestamp filled in where it is missing, and what is wrong with them.

    `now_ms` is the timestamp to fill in, milliseconds since 1970. The size is that of `fields` as they came.
    """
    filled = {**fields} if "timestamp" in fields else {**fields, "timestamp": now_ms}
    return filled, schema.faults(filled, size=json_size(fields), whole=whole)


NAME_LENGTH = 128
"""Characters that a source, a type, a severity or a client id may have."""
KEY_LENGTH = 256
"""Characters that a producer's key may have."""
EARLIEST_MS = 100_000_000_000
"""A timestamp below this (March 1973) is not one of milliseconds: producers confuse them with seconds."""
LATEST_MS = 253_402_300_800_000
"""The first millisecond of the year 10000."""


def is_name(value: Any) -> bool:
    """Whether `value` can be a source or a type: a string, not blank, printable, at most `NAME_LENGTH` characters."""
    return isinstance(value, str) and len(value) <= NAME_LENGTH and _is_printed(value)


@lru_cache(maxsize=512)
def _is_printed(value: str) -> bool:
    """Whether a text is printable, and something is seen of it. Most events repeat few names."""
    return bool(value.strip()) and value.isprintable()


def is_source(value: Any) -> bool:
    """Whether `value` can be the source of a producer: a name, and not the gateway's own.

    The gateway's own events are never deleted for their number, and other processes rely on them.
    """
    return is_name(value) and value != GATEWAY_NAME


def source_fault(field: str, fields: Mapping[str, Any]) -> FieldError | None:
    """What is wrong with the required source in `field`, or None."""
    if is_source(fields.get(field)):
        return None
    return name_fault(field, fields) or FieldError(field, "is the gateway's own name")


def name_fault(field: str, fields: Mapping[str, Any]) -> FieldError | None:
    """What is wrong with the required name `field`, or None."""
    if is_name(fields.get(field)):
        return None
    fault = kind_fault(field, JsonKind.STRING, fields)
    return fault or FieldError(field, f"must be 1 to {NAME_LENGTH} printable characters, not all blank")


def is_key(value: str) -> bool:
    """Whether a text can be a producer's key: printable, and 1 to `KEY_LENGTH` characters."""
    return 0 < len(value) <= KEY_LENGTH and value.isprintable()


def key_fault(field: str, fields: Mapping[str, Any]) -> FieldError | None:
    """What is wrong with the producer's key in `field`, or None."""
    fault = kind_fault(field, JsonKind.STRING, fields)
    if fault is None and not is_key(fields[field]):
        return FieldError(field, f"must be 1 to {KEY_LENGTH} printable characters")
    return fault


def severity_of(payload: Mapping[str, Any], metadata: Mapping[str, Any]) -> str | None:
    """The severity that an event states: a string of at most `NAME_LENGTH` characters in its payload, else its metadata."""
    for fields in (payload, metadata):
        if "severity" in fields and is_name(fields["severity"]):
            return str(fields["severity"])
    return None


def stated_ms(value: Any) -> int | None:
    """`value` as the producer's time in milliseconds since 1970; None where it cannot be one."""
    return value if type(value) is int and EARLIEST_MS <= value < LATEST_MS else None


class Envelope(msgspec.Struct, frozen=True):
    """A valid event as its producer sent it, with the gateway's timestamp where a canonical one had none."""

    source: str
    type: str
    payload: Mapping[str, Any]
    canonical: bool
    broadcast: bool
    severity: str | None
    stated_ms: int | None
    metadata: Mapping[str, Any] = msgspec.field(default_factory=dict)
    key: str | None = None
    digest: str | None = None


class Rejected(NamedTuple):
    """The faults of an event."""

    faults: tuple[FieldError, ...]


def envelope(
    fields: Mapping[str, Any], *, stated: int | None, now_ms: int, faults: Sequence[FieldError | None]
) -> Envelope | Rejected:
    """The event of the members of an ingest body, or all its faults.

    `faults` are those that its form has: without any, the members have the right kinds. A canonical payload is checked
    in either case. `stated` is the time that the form states beside the payload, milliseconds since 1970.
    """
    sent: Any = fields.get("payload")
    payload, schema = sent, canonical_type(fields.get("type"))
    found = list(filter(None, faults))
    if schema is not None and isinstance(payload, dict):
        payload, wrong = validate(schema, payload, now_ms=now_ms if stated is None else stated, whole="payload")
        found.extend(wrong)
    if found:
        return Rejected(tuple(found))
    metadata, broadcast, key = fields.get("metadata") or {}, fields.get("broadcast", False), fields.get("key")
    return Envelope(
        source=fields["source"],
        type=fields["type"],
        payload=payload,
        canonical=schema is not None,
        broadcast=broadcast,
        metadata=metadata,
        key=key,
        digest=None if key is None else digest_of(fields["type"], sent, metadata, broadcast=broadcast),
        severity=severity_of(payload, metadata),
        stated_ms=stated_ms(sent.get("timestamp")) if stated is None else stated,
    )


def digest_of(type_: str, payload: Mapping[str, Any], metadata: Mapping[str, Any], *, broadcast: bool) -> str:
    """The hash by which a repeat of an event with a key is known, whatever the order of its members."""
    sent = (type_, payload, metadata, broadcast)
    # 128 bits: nobody gains from two events of one producer with the same hash.
    return hashlib.sha256(msgspec.json.encode(sent, order="sorted")).hexdigest()[:32]


def not_an_object(value: Any) -> Rejected:
    """What is wrong with an event that is another JSON value."""
    return Rejected((FieldError("body", f"must be an object, not {kind_phrase(value)}"),))


def listed(faults: Sequence[FieldError]) -> list[dict[str, str]]:
    """`faults` as they stand in a response: `[{"field": …, "message": …}]`."""
    return [fault._asdict() for fault in faults]
