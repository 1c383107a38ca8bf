"""The cookie of a sign-in to the status pages, which no service may see or set. Pure."""

from __future__ import annotations

PLAIN = b"tentaculo_session"
"""Its name where the client's connection is not encrypted."""
HOST_ONLY = b"__Host-tentaculo_session"
"""Its name behind TLS. Browsers take such a cookie only with Secure and Path=/, and for the very host that sets it."""
NAMES = frozenset((PLAIN, HOST_ONLY))
_BLANK = b" \t"


def take_out(cookie: bytes) -> tuple[bytes, dict[bytes, bytes]]:
    """The value of a `Cookie` field without the cookies of the gateway, and the values of these by name.

    Every other byte stays. A cookie that is there twice with two values is one that no gateway made, and counts as empty.
    """
    found: dict[bytes, bytes] = {}
    if PLAIN not in cookie:  # the other name ends with it
        return cookie, found
    kept = []
    for part in cookie.split(b";"):
        if PLAIN not in part:
            kept.append(part)
            continue
        name, _, value = part.partition(b"=")
        name, value = name.strip(_BLANK), value.strip(_BLANK)
        if name not in NAMES:
            kept.append(part)
        elif found.setdefault(name, value) != value:
            found[name] = b""
    return b";".join(kept).strip(_BLANK) if found else cookie, found


def is_set_by(set_cookie: bytes) -> bool:
    """Whether a browser that gets this value of `Set-Cookie` would send a cookie of the gateway's name.

    A cookie without a name is sent as its bare value, so that `=name=value` counts too. Capitals do not matter: some
    servers read names without them.
    """
    pair = set_cookie.partition(b";")[0].lstrip(b"= \t")
    return pair.partition(b"=")[0].strip(_BLANK).lower() in _LOWER


_LOWER = frozenset(name.lower() for name in NAMES)
