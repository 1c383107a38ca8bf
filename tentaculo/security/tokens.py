"""The gateway's tokens: how they are hashed and compared, and which headers carry them. Pure."""

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
    """What a token check found."""

    OPEN = "open"
    """Authentication is off: every caller is anonymous."""
    BY_HEADER = "by_header"
    """`X-VX11-Token` authenticated."""
    BY_BEARER = "by_bearer"
    """`Authorization: Bearer` authenticated."""
    MISSING = "missing"
    WRONG = "wrong"

    def __init__(self, word: str) -> None:
        self.is_authenticated = word.startswith("by_")
        """Whether an accepted token was sent."""


class Tokens:
    """The accepted tokens, kept as hashes and compared in constant time.

    `hashes` are as `hash_token` makes them. With `enabled` false every request is allowed.
    """

    def __init__(self, hashes: Iterable[str], *, enabled: bool = True) -> None:
        self._digests = tuple(bytes.fromhex(item.removeprefix(HASH_PREFIX)) for item in hashes)
        self._fingerprints = frozenset(map(_fingerprint, self._digests))
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

    def fingerprint(self, token: bytes) -> str | None:
        """What stands for `token` in the table of sessions, None where it is not accepted."""
        return _fingerprint(sha256(token).digest()) if self.accepts(token) else None

    def has_fingerprint(self, fingerprint: str) -> bool:
        """Whether the token of a fingerprint is accepted."""
        return self._enabled and fingerprint in self._fingerprints

    def check(self, header: bytes | None, authorization: bytes | None) -> TokenCheck:
        """Judge a request by its `X-VX11-Token` and `Authorization` values (raw bytes, None where absent).

        `X-VX11-Token` decides when both are there. An empty token is a missing one. A repeated header is one value with
        commas, and so never an accepted token.
        """
        if not self._enabled:
            return TokenCheck.OPEN
        if header is not None and header.strip(b" \t,"):
            return TokenCheck.BY_HEADER if self.accepts(header) else TokenCheck.WRONG
        if token := _bearer(authorization):
            return TokenCheck.BY_BEARER if self.accepts(token) else TokenCheck.WRONG
        return TokenCheck.MISSING

    def hides(self, authorization: bytes | None) -> bool:
        """Whether `Authorization` holds an accepted token, which no service may get, whatever authenticated."""
        return self._enabled and bool(token := _bearer(authorization)) and self.accepts(token)


def _fingerprint(digest: bytes) -> str:
    # Not the hash itself: the database alone does not say which line of a configuration it is.
    return sha256(b"session" + digest).hexdigest()[:32]


def _bearer(authorization: bytes | None) -> bytes:
    """The token of `Authorization: Bearer`; empty where there is none."""
    if authorization is None or authorization[:7].lower() != b"bearer ":
        return b""
    return authorization[7:].strip()
