"""The cookie of a sign-in to the status pages, which no service may see or set. Pure."""

from __future__ import annotations

import re

PLAIN = b"tentaculo_session"
"""Its name where the client's connection is not encrypted."""
HOST_ONLY = b"__Host-tentaculo_session"
"""Its name behind TLS. Browsers take such a cookie only with Secure and Path=/, and for the very host that sets it."""
NAMES = frozenset((PLAIN, HOST_ONLY))
_BLANK = b" \t"
_OWN = re.compile(rb"(?:^|;)[ \t]*((?:__Host-)?tentaculo_session)[ \t]*(?:=([^;]*))?(?=;|\Z)")
_MOST = 8
"""Cookies of the gateway that are looked at in one field."""


def take_out(cookie: bytes) -> tuple[bytes, dict[bytes, bytes]]:
    """The value of a `Cookie` field without the cookies of the gateway, and the values of these by name.

    Every other byte stays. A cookie that is there twice with two values, or very often, is one that no gateway made, and
    counts as empty.
    """
    if PLAIN not in cookie:  # the other name ends with it
        return cookie, {}
    # There may be thousands of cookies: no step of Python for each.
    own = _OWN.findall(cookie)
    if not own:
        return cookie, {}
    if len(own) > _MOST:
        found = dict.fromkeys({name for name, _ in own}, b"")
    else:
        found = {}
        for name, text in own:
            value = text.strip(_BLANK)
            if found.setdefault(name, value) != value:
                found[name] = b""
    kept = _OWN.sub(b"", cookie)
    first = _OWN.match(cookie)
    if first is not None and first[0][:1] != b";":
        kept = kept[1:]  # the separator behind it
    return kept.strip(_BLANK), found


def is_set_by(set_cookie: bytes) -> bool:
    """Whether a browser that gets this value of `Set-Cookie` would send a cookie of the gateway's name.

    A cookie without a name is sent as its bare value, so that `=name=value` counts too. Capitals do not matter: some
    servers read names without them.
    """
    pair = set_cookie.partition(b";")[0].lstrip(b"= \t")
    return pair.partition(b"=")[0].strip(_BLANK).lower() in _LOWER


_LOWER = frozenset(name.lower() for name in NAMES)
