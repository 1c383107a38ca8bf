"""Events as bytes: JSON in, bounded and strict, and the flat JSON that subscribers get. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from tentaculo.model.event import Event

DEPTH = 64
"""Levels of nested lists and objects that are accepted. Every later encoder can then take what was accepted."""


class JsonError(Exception):
    """The text is not JSON that can be kept. `str()` says why, without a word of the text itself."""


def parse(data: bytes) -> Any:
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
    if _is_deeper_than(DEPTH, value):
        raise JsonError(f"is nested more than {DEPTH} levels deep")
    return value


def _is_deeper_than(limit: int, value: Any) -> bool:
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(limit):
        if not level:
            return False
        children = (item.values() if isinstance(item, dict) else item for item in level)
        level = [child for group in children for child in group if isinstance(child, dict | list)]
    return bool(level)


def size_of(fields: Mapping[str, Any]) -> int:
    """Bytes of `fields` as compact UTF-8 JSON, however they were written."""
    return len(msgspec.json.encode(fields))


def encode_broadcast(event: Event) -> bytes:
    """`event` as subscribers get it: one JSON object of the gateway's four keys and the fields of the payload.

    `type`, `source` and `id` are the gateway's, also where the payload has such a key; `timestamp` is the payload's,
    else the time of receipt in milliseconds.
    """
    received = int(event.received_at.timestamp() * 1000)
    members = {"type": event.type, "source": event.source, "id": event.id, "timestamp": received}
    own = {"type", "source", "id"}
    members.update((name, value) for name, value in event.payload.items() if name not in own)
    return msgspec.json.encode(members)
