"""Which web pages may call (the Fetch standard's CORS protocol). Pure; used for proxied and native paths alike."""

from __future__ import annotations

from collections.abc import Mapping

from tentaculo.config.schema import CorsSettings

_MAX_AGE = 600
"""Seconds a browser may remember a preflight's answer."""
_NOTHING: Mapping[str, str] = {}


class CorsPolicy:
    """Answers for the listed origins, with credentials; every other origin gets nothing from us."""

    def __init__(self, config: CorsSettings) -> None:
        self.origins = frozenset(config.origins)
        """The listed origins."""

    def __repr__(self) -> str:
        return f"<CorsPolicy: {len(self.origins)} origins>"

    def allows(self, origin: str | None) -> bool:
        """Whether `origin`, the header's exact value, is listed."""
        return origin is not None and origin in self.origins

    def headers(self, origin: str | None) -> Mapping[str, str]:
        """What an answer to `origin` carries; nothing where it is not listed."""
        if origin is None or origin not in self.origins:
            return _NOTHING
        return {
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Allow-Credentials": "true",
            "Access-Control-Expose-Headers": "X-Request-ID",
            "Vary": "Origin",
        }

    def header_lines(self, origin: str | None) -> bytes:
        """`headers(origin)` as whole lines."""
        if origin is None:
            return b""
        return "".join([f"{name}: {value}\r\n" for name, value in self.headers(origin).items()]).encode("latin-1")

    def preflight(self, origin: str | None, method: str | None, headers: str | None) -> Mapping[str, str] | None:
        """The headers of the answer (204) to a preflight, or None where this is none of ours.

        `method` and `headers` are the values of Access-Control-Request-Method and -Headers. Both are echoed: a list
        would have to name every header of every service, and credentials rule out `*`.
        """
        if origin is None or method is None or origin not in self.origins:
            return None
        answer = {
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Allow-Credentials": "true",
            "Access-Control-Allow-Methods": method,
            "Access-Control-Max-Age": str(_MAX_AGE),
            "Vary": "Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
        }
        if headers:
            answer["Access-Control-Allow-Headers"] = headers
        return answer
