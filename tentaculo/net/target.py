"""The request target, taken apart without changing a byte of it (RFC 9112 section 3.2).

Routing, authorisation and forwarding all use this one view. A path that another server might read as a different one
(`..` in any encoding, backslashes, NUL) is refused, so that no request bypasses the rules of a route.
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import NamedTuple

from tentaculo.model.failure import Failure, Problem

# One cheap look decides whether a path needs the careful one.
_SUSPECT = re.compile(r"[.\\#\x00-\x20\x7f]|%(?:2e|5c|00|c0|e0|f0|u00)", re.IGNORECASE)
_REFUSED = re.compile(r"[\\#\x00-\x20\x7f]|%00", re.IGNORECASE)
# Beside the plain escapes: overlong UTF-8, and the `%u` escapes that some servers still decode.
_SEPARATOR = re.compile(
    r"/|%(?:2f|5c|c0%af|c1%9c|e0%80%af|e0%81%9c|f0%80%80%af|f0%80%81%9c|u002f|u005c)", re.IGNORECASE
)
_DOT = re.compile(r"%(?:2e|c0%ae|e0%80%ae|f0%80%80%ae|u002e)", re.IGNORECASE)
# Between two slashes that every server reads as such, in the two spellings that RFC 3986 makes equal.
_PLAIN_DOT = re.compile(r"(?<=/)(?:\.|%2e)(?=/|$)", re.IGNORECASE)
_PARAMETERS = re.compile(r";|%3b", re.IGNORECASE)
# No name is longer (RFC 1035 section 2.3.4), and what is remembered per host stays small.
_AUTHORITY = re.compile(
    r"(?:\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9\-._~%!$&'()*+;=\x80-\U0010ffff]{1,255})(?::[0-9]{0,5})?"
)


class Target(NamedTuple):
    """A request target."""

    path: str
    """Starts with `/`, or is `*`; escapes and bytes as they came (bytes outside UTF-8 as surrogates)."""
    query: str
    """With its `?`, or empty. Byte for byte."""
    authority: str | None
    """Of an absolute-form target; it wins over Host."""


def parse_target(method: str, raw: str) -> Target:
    """Take the raw request target apart. Raises `Problem` (400) for what must not be forwarded."""
    authority = None
    if raw[:1] != "/":
        if raw == "*" and method == "OPTIONS":
            return Target("*", "", None)
        authority, raw = _split_absolute(raw)
        if not raw and method == "OPTIONS":
            return Target("*", "", authority)  # RFC 9112 section 3.2.4
        if not raw.startswith("/"):
            raw = "/" + raw
    mark = raw.find("?")
    path, query = (raw, "") if mark < 0 else (raw[:mark], raw[mark:])
    if _SUSPECT.search(path) is not None:
        check_path(path)
    if "#" in query:
        raise Problem(Failure.BAD_TARGET, "A request target has no fragment.")
    return Target(path, query, authority)


def check_path(path: str) -> None:
    """Raise `Problem` (400) if `path` holds a `..` segment in any encoding, a backslash, NUL, `#` or a control byte.

    A plain `.` segment passes: it does not change the path, and apt requests `/./Packages` (RFC 3986 section 6.2.2.3).
    """
    if _REFUSED.search(path) is not None:
        raise Problem(Failure.BAD_TARGET, "The path holds a character that is not allowed there.")
    for segment in _SEPARATOR.split(_PLAIN_DOT.sub("", path)):
        # `..;x` is a dot segment to servers that read path parameters.
        if _PARAMETERS.split(_DOT.sub(".", segment), maxsplit=1)[0] in (".", ".."):
            raise Problem(Failure.BAD_TARGET, "The path holds a dot segment.")


def is_authority(text: str) -> bool:
    """Whether `text` is a host with an optional port: no user information, path, comma or space."""
    return _AUTHORITY.fullmatch(text) is not None


def is_address(name: str) -> bool:
    """Whether `name`, a host without a port, is an IP address; IPv6 in brackets or without."""
    if not name or (name[0] != "[" and not name[-1].isdigit() and ":" not in name):
        return False
    try:
        ip_address(name.removeprefix("[").removesuffix("]").partition("%")[0])
    except ValueError:
        return False
    return True


def _split_absolute(raw: str) -> tuple[str, str]:
    scheme, mark, rest = raw.partition("://")
    if not mark or scheme.lower() not in ("http", "https"):
        raise Problem(Failure.BAD_TARGET, "The request target is in a form that is not supported.")
    cut = min((i for i in (rest.find("/"), rest.find("?")) if i >= 0), default=len(rest))
    authority, path = rest[:cut], rest[cut:]
    if not is_authority(authority):
        raise Problem(Failure.BAD_TARGET, "The request target names no valid host.")
    return authority, path
