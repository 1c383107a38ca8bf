"""Who may call: the gateway's tokens, and which headers carry them.

Pure: the proxied path and the native path ask the same question here and get the same answer.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from enum import Enum
from hashlib import sha256

TOKEN_HEADER = b"x-vx11-token"
HASH_PREFIX = "sha256:"


def hash_token(token: str) -> str:
    """The form in which a token is configured and kept: `sha256:` and 64 hex digits."""
    return HASH_PREFIX + sha256(token.encode()).hexdigest()


class TokenCheck(Enum):
    """The answer to a token check."""

    OPEN = "open"
    """No token is asked for."""
    BY_HEADER = "by_header"
    """`X-VX11-Token` authenticated."""
    BY_BEARER = "by_bearer"
    """`Authorization: Bearer` authenticated, and is to be stripped before forwarding."""
    MISSING = "missing"
    WRONG = "wrong"

    @property
    def is_allowed(self) -> bool:
        """Whether the request may go on."""
        return self in (TokenCheck.OPEN, TokenCheck.BY_HEADER, TokenCheck.BY_BEARER)


class Tokens:
    """The accepted tokens, kept as hashes and compared in constant time.

    `hashes` are as `hash_token` makes them. With `enabled` false every request is allowed.
    """

    def __init__(self, hashes: Iterable[str], *, enabled: bool = True) -> None:
        self._digests = tuple(bytes.fromhex(item.removeprefix(HASH_PREFIX)) for item in hashes)
        self._enabled = enabled

    def __repr__(self) -> str:
        return f"<Tokens: {len(self._digests)} accepted{'' if self._enabled else ', disabled'}>"

    def accepts(self, token: bytes) -> bool:
        """Whether `token` is one of the accepted ones. Every hash is compared, whichever matches."""
        digest = sha256(token).digest()
        found = False
        for accepted in self._digests:
            found |= hmac.compare_digest(digest, accepted)
        return found

    def check(self, header: bytes | None, authorization: bytes | None) -> TokenCheck:
        """Judge a request by its `X-VX11-Token` and `Authorization` values (raw bytes, None where absent).

        `X-VX11-Token` decides when both are there.
        """
        if not self._enabled:
            return TokenCheck.OPEN
        if header is not None:
            return TokenCheck.BY_HEADER if self.accepts(header) else TokenCheck.WRONG
        if authorization is not None and authorization[:7].lower() == b"bearer ":
            return TokenCheck.BY_BEARER if self.accepts(authorization[7:].strip()) else TokenCheck.WRONG
        return TokenCheck.MISSING
