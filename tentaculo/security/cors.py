"""Which web pages may call the gateway: the Fetch standard's CORS protocol, and the Origin check of a WebSocket."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from urllib.parse import urlsplit

from tentaculo.config.schema import CorsSettings
from tentaculo.config.types import DEFAULT_PORTS
from tentaculo.net.http1 import is_address

_MAX_AGE = 600
"""Seconds for which a browser may cache the response to a preflight."""
EXPOSED = "X-Request-ID, X-Correlation-Id, Proxy-Status, RateLimit, RateLimit-Policy, Retry-After"
"""The headers that the gateway adds to responses of services, and that a page of a listed origin may read."""
_OF_OWN_PATHS = f"{EXPOSED}, ETag, WWW-Authenticate"
"""The same, of its own responses."""
_NO_HEADERS: Mapping[str, str] = {}
# urlsplit accepts text that no browser sends: control characters, user information, a path.
_ORIGIN = re.compile(r"https?://[^/?#@\\\x00-\x20\x7f]+", re.IGNORECASE)


class CorsPolicy:
    """CORS response headers for the listed origins, with credentials. Other origins get no CORS header."""

    def __init__(self, config: CorsSettings) -> None:
        self.origins = frozenset(config.origins)
        """The listed origins."""

    def __repr__(self) -> str:
        return f"<CorsPolicy: {len(self.origins)} origins>"

    def allows(self, origin: str | None) -> bool:
        """Whether `origin`, the header's exact value, is listed."""
        return origin is not None and origin in self.origins

    def headers(self, origin: str | None) -> Mapping[str, str]:
        """The CORS headers of the gateway's own response to `origin`; empty when the origin is not listed."""
        if origin is None or origin not in self.origins:
            return _NO_HEADERS
        return {
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Allow-Credentials": "true",
            "Access-Control-Expose-Headers": _OF_OWN_PATHS,
            "Vary": "Origin",
        }

    def header_lines(self, origin: str | None) -> bytes:
        """`headers(origin)` as whole lines, for the response of a service, without the list of exposed headers.

        That list is the service's with `EXPOSED` added, so it depends on the response.
        """
        if origin is None:
            return b""
        lines = [
            f"{name}: {value}\r\n"
            for name, value in self.headers(origin).items()
            if name != "Access-Control-Expose-Headers"
        ]
        return "".join(lines).encode("latin-1")

    def preflight(self, origin: str | None, method: str | None, headers: str | None) -> Mapping[str, str] | None:
        """The headers of the 204 response to a preflight, or None when the request is not a preflight of a listed origin.

        `method` and `headers` are the values of Access-Control-Request-Method and -Headers. Both are echoed: a list
        would have to name every header of every service, and `*` is not allowed with credentials.
        """
        if origin is None or method is None or origin not in self.origins:
            return None
        response_headers = {
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Allow-Credentials": "true",
            "Access-Control-Allow-Methods": method,
            "Access-Control-Max-Age": str(_MAX_AGE),
            "Vary": "Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
        }
        if headers:
            response_headers["Access-Control-Allow-Headers"] = headers
        return response_headers


def is_local(name: str) -> bool:
    """Whether `name` is an IP address, `localhost` or a name without a dot, which no attacker can register."""
    return "." not in name.strip(".") or is_address(name)


def is_allowed(origin: str | None, host: str, origins: Collection[str], is_own: Callable[[str], bool]) -> bool:
    """Whether a page from `origin` may call a gateway that was addressed as `host`.

    None means that the request has no `Origin` header: it does not come from a browser and is allowed. Otherwise the
    origin must be one of `origins`, or have the host and port of `host`, the `Host` header, where `is_own` says that
    this name, in lower case, is the gateway's own.
    """
    if origin is None:
        return True
    if origin.lower() in {allowed.lower() for allowed in origins}:
        return True
    if _ORIGIN.fullmatch(origin) is None:
        return False
    try:
        page, gateway = urlsplit(origin), urlsplit(f"//{host}")
        default = DEFAULT_PORTS[page.scheme]
        same_port = (page.port or default) == (gateway.port or default)
    except (ValueError, KeyError):
        return False
    name = page.hostname
    return bool(name) and name == gateway.hostname and same_port and is_own((name or "").removesuffix("."))
