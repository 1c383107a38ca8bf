"""Which web pages may open a WebSocket. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection
from urllib.parse import urlsplit

_DEFAULT_PORTS = {"http": 80, "https": 443}
# urlsplit alone forgives what no browser sends: control characters before and in it, user information, a path.
_ORIGIN = re.compile(r"https?://[^/?#@\\\x00-\x20\x7f]+", re.IGNORECASE)


def is_allowed(origin: str | None, host: str, origins: Collection[str]) -> bool:
    """Whether a page from `origin` may call a gateway that was addressed as `host`.

    None (no `Origin` header) is not a browser and passes. Else the origin is one of `origins`, or that of the gateway
    itself: its host and port are those of `host`, the `Host` header. `null` never passes.
    """
    if origin is None:
        return True
    if origin.lower() in {allowed.lower().rstrip("/") for allowed in origins}:
        return True
    if _ORIGIN.fullmatch(origin) is None:
        return False
    try:
        page, gateway = urlsplit(origin), urlsplit(f"//{host}")
        default = _DEFAULT_PORTS[page.scheme]
        same_port = (page.port or default) == (gateway.port or default)
    except (ValueError, KeyError):
        return False
    return bool(page.hostname) and page.hostname == gateway.hostname and same_port
