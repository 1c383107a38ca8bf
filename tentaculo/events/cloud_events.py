"""CloudEvents 1.0 as ingest bodies: the JSON format, and the binary mode of the HTTP binding. Pure.

https://github.com/cloudevents/spec, `spec.md`, `formats/json-format.md` and `bindings/http-protocol-binding.md`.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import partial
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec

from tentaculo.events.faulty_json import parse_members, with_value_faults
from tentaculo.events.schemas import (
    Envelope,
    FieldError,
    JsonKind,
    Rejected,
    envelope,
    key_fault,
    kind_fault,
    name_fault,
    not_an_object,
    source_fault,
    stated_ms,
)
from tentaculo.model.text import parse_time, printable

PREFIX = "ce-"
"""How the names of the headers begin that are attributes."""
VERSION = "1.0"
MAX_ATTRIBUTES = 64
"""Attributes that one event may have."""
_REQUIRED = ("specversion", "id", "source", "type")
_TEXTS = ("subject", "dataschema", "datacontenttype")
_DATA = ("data", "data_base64")
_NAME = re.compile(r"[a-z0-9]+")
_QUOTED_PAIR = re.compile(r"\\(.)")
_TEXT_MEDIA = re.compile(r'text/[^;]+(; *charset="?(utf-8|us-ascii)"?)?', re.IGNORECASE)
_BROADCAST = {True: True, False: False, "true": True, "false": False}
INT32 = 2**31
"""Integers of extensions are less than this, and at least minus this."""


def is_binary_mode(headers: Iterable[str]) -> bool:
    """Whether the names of a request's headers say that it is an event in binary mode."""
    wanted = {PREFIX + name for name in _REQUIRED}
    return any(name.lower() in wanted for name in headers)


def is_json(media_type: str) -> bool:
    """Whether content of this type is JSON; `media_type` may have parameters."""
    essence = media_type.partition(";")[0].strip().lower()
    return essence.partition("/")[2] == "json" or essence.endswith("+json")


def read_structured(body: bytes, now_ms: int) -> Envelope | Rejected:
    """The event of one JSON object, or all its faults. Raises `JsonError`."""
    value, unkept = parse_members(body)
    if not isinstance(value, dict):
        return with_value_faults(not_an_object(value), unkept)
    # Null is a missing attribute, but no name that is none.
    attributes = {
        name: one for name, one in value.items() if name not in _DATA and (one is not None or not _NAME.fullmatch(name))
    }
    faults = list[FieldError | None]()
    payload: dict[str, Any] = {}
    if value.get("data_base64") is not None:
        if "data" in value:
            faults.append(FieldError("data_base64", "must not be there beside data"))
        faults.append(_base64_fault(value))
        payload = {"data_base64": value["data_base64"]}
    elif "data" in value:
        payload = _as_object(value["data"])
    return with_value_faults(_event(attributes, payload, now_ms, faults), unkept)


def read_binary(headers: Iterable[tuple[str, str]], body: bytes, now_ms: int) -> Envelope | Rejected:
    """The event of a request in binary mode, or all its faults. Raises `JsonError` where its content is not the JSON
    that its media type says."""
    attributes = dict[str, Any]()
    faults = list[FieldError | None]()
    media_type: str | None = None
    for written, value in headers:
        header = written.lower()
        if header == "content-type":
            media_type = value
        if not header.startswith(PREFIX):
            continue
        name = header.removeprefix(PREFIX)
        if name in attributes:
            faults.append(FieldError(_shown(name), "is there twice"))
        elif name == "datacontenttype":
            faults.append(FieldError(name, "is the header Content-Type in binary mode"))
        else:
            try:
                attributes[name] = decode_header(value)
            except UnicodeError:
                attributes[name] = ""
                faults.append(FieldError(_shown(name), "is not percent-encoded UTF-8"))
    if media_type is not None:
        attributes["datacontenttype"] = media_type
        if any("\ud800" <= letter <= "\udfff" for letter in media_type):
            # Bytes that are not UTF-8: no JSON could hold them.
            faults.append(FieldError("datacontenttype", "is not UTF-8"))
    content, unkept = _content(body, media_type)
    return with_value_faults(_event(attributes, content, now_ms, faults), unkept)


def decode_header(value: str) -> str:
    """The value of an attribute whose header has `value`. Raises UnicodeError where that is not UTF-8."""
    if len(value) > 1 and value.startswith('"') and value.endswith('"'):
        value = _QUOTED_PAIR.sub(r"\1", value[1:-1])
    return unquote_to_bytes(value).decode()


def _event(
    attributes: Mapping[str, Any], payload: dict[str, Any], now_ms: int, faults: list[FieldError | None]
) -> Envelope | Rejected:
    if len(attributes) > MAX_ATTRIBUTES:
        return Rejected((FieldError("body", f"has {len(attributes)} attributes; {MAX_ATTRIBUTES} are allowed"),))
    faults += [
        _version_fault(attributes),
        key_fault("id", attributes),
        source_fault("source", attributes),
        name_fault("type", attributes),
        *(_text_fault(name, attributes) for name in _TEXTS if name in attributes),
    ]
    stated = None
    if "time" in attributes:
        moment = _moment(attributes["time"])
        faults.append(FieldError("time", "must be a timestamp of RFC 3339") if moment is None else None)
        stated = None if moment is None else stated_ms(int(moment.timestamp() * 1000))
    extensions = {
        name: one for name, one in attributes.items() if name not in (*_REQUIRED, *_TEXTS, "time", "broadcast")
    }
    faults += [_extension_fault(name, one) for name, one in extensions.items()]
    broadcast = attributes.get("broadcast", False)
    if not isinstance(broadcast, bool | str) or broadcast not in _BROADCAST:
        faults.append(FieldError("broadcast", "must be true or false"))
    fields = {
        "source": attributes.get("source"),
        "type": attributes.get("type"),
        "key": attributes.get("id"),
        "payload": payload,
        "broadcast": broadcast is True or broadcast == "true",
        "metadata": _metadata(attributes, extensions),
    }
    return envelope(fields, stated=stated, now_ms=now_ms, faults=faults)


def _metadata(attributes: Mapping[str, Any], extensions: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: attributes[name] for name in _TEXTS if name in attributes}
    if is_json(str(kept.get("datacontenttype", ""))):
        del kept["datacontenttype"]  # JSON is the rule, so that it says nothing: the payload is JSON.
    return {**extensions, **kept}


def _as_object(data: Any) -> dict[str, Any]:
    return data if isinstance(data, dict) else {"data": data}


def _content(body: bytes, media_type: str | None) -> tuple[dict[str, Any], list[FieldError]]:
    if not body:
        return {}, []
    if media_type is None or is_json(media_type):
        value, faults = parse_members(body, "data")
        return _as_object(value), faults
    if _TEXT_MEDIA.fullmatch(media_type.strip()):
        try:
            return {"data": body.decode()}, []
        except UnicodeError:
            pass  # Not the text that it says: its bytes are kept.
    return {"data_base64": base64.b64encode(body).decode()}, []


def _version_fault(attributes: Mapping[str, Any]) -> FieldError | None:
    fault = kind_fault("specversion", JsonKind.STRING, attributes)
    if fault is None and attributes["specversion"] != VERSION:
        return FieldError("specversion", f"must be {VERSION}")
    return fault


def _text_fault(name: str, attributes: Mapping[str, Any]) -> FieldError | None:
    fault = kind_fault(name, JsonKind.STRING, attributes)
    return FieldError(name, "must not be empty") if fault is None and not attributes[name] else fault


def _extension_fault(name: str, value: Any) -> FieldError | None:
    if not _NAME.fullmatch(name) or name in ("data", "data_base64"):
        return FieldError(_shown(name), "is no name of an attribute: lower-case letters a to z and digits")
    if isinstance(value, bool | str) or (JsonKind.INTEGER.accepts(value) and -INT32 <= value < INT32):
        return None
    return FieldError(_shown(name), "must be a string, a boolean or an integer of 32 bits")


def _base64_fault(fields: Mapping[str, Any]) -> FieldError | None:
    fault = kind_fault("data_base64", JsonKind.STRING, fields)
    if fault is None:
        try:
            base64.b64decode(fields["data_base64"], validate=True)
        except (binascii.Error, ValueError):
            return FieldError("data_base64", "must be Base64")
    return fault


def _moment(value: Any) -> datetime | None:
    try:
        moment = parse_time(value, partial(msgspec.convert, type=datetime)) if isinstance(value, str) else None
    except (ValueError, OverflowError):
        return None
    return moment if moment is not None and moment.tzinfo is not None else None


def _shown(name: str) -> str:
    return printable(name, 64) or "(a name that is not printable)"
