"""The accepted tokens, and the caller that each of them makes of a request. No I/O.

Tokens are kept as SHA-256 digests, and found by a look-up in a dictionary: it costs the same for one token and for a
thousand. That leaks nothing by its time. What is compared is the digest, of which a caller cannot choose a part without
computing hashes until one fits; and Python compares two digests only where 64 bits of a SipHash with a secret key of the
process agree. A token that `tentaculo token new` made has 256 random bits, so that no slow hash is needed.
"""

from __future__ import annotations

import hmac
from base64 import b64decode
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from enum import Enum
from hashlib import sha256

from tentaculo.config.accepted_tokens import TokenSettings, format_moment
from tentaculo.model.scopes import Need, granted
from tentaculo.model.text import utc_now

TOKEN_HEADER = b"x-vx11-token"
HASH_PREFIX = "sha256:"


def hash_token(token: str) -> str:
    """The form in which a token is configured and kept: `sha256:` and 64 hex digits."""
    return HASH_PREFIX + sha256(token.encode()).hexdigest()


class TokenCheck(Enum):
    """How a caller is known. A way to be known that is none of a token, such as OpenID Connect, would be one more."""

    OPEN = "open"
    """Authentication is off: every caller is anonymous."""
    BY_HEADER = "by_header"
    """`X-VX11-Token` authenticated."""
    BY_BEARER = "by_bearer"
    """`Authorization: Bearer` authenticated."""
    BY_TICKET = "by_ticket"
    """A ticket authenticated, which is used up."""
    BY_SESSION = "by_session"
    """The session of a browser that has signed in authenticated."""
    MISSING = "missing"
    WRONG = "wrong"
    EXPIRED = "expired"
    """The token was accepted until it expired."""

    def __init__(self, word: str) -> None:
        self.is_authenticated = word.startswith("by_")
        """Whether an accepted token, or what was made with one, was sent."""


class TokenUse:
    """What is counted of a token in this process. It survives an exchange of the accepted tokens."""

    __slots__ = ("passed", "requests", "streams")

    def __init__(self) -> None:
        self.requests = 0
        """Requests that the token was sent with."""
        self.passed = 0.0
        """The latest end of it that has passed, in seconds since 1970: a clock that is set back does not revive it."""
        self.streams: dict[Callable[[], None], tuple[Need, ...]] = {}
        """What ends each stream that was opened with it, and what that needs as long as it lasts."""

    def __repr__(self) -> str:
        return f"<TokenUse: {self.requests} requests>"


class Acceptance:
    """What the callers of the same accepted tokens have in common.

    They do not refer to the `Tokens`, which refers to them: reference counts alone free what a reload replaces.
    """

    __slots__ = ("clock",)

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` gives the seconds since 1970."""
        self.clock = clock


class Caller:
    """Who sends a request, and what it may do. Many requests share one: it is never changed."""

    __slots__ = ("acceptance", "check", "ends_at", "is_authenticated", "name", "scopes", "token", "use")

    def __init__(
        self,
        acceptance: Acceptance,
        check: TokenCheck,
        use: TokenUse,
        *,
        name: str | None = None,
        token: str = "",
        scopes: frozenset[str] = frozenset(),
        ends_at: float | None = None,
    ) -> None:
        self.acceptance = acceptance
        """That of the tokens by which it is known. Once others are in their place it must be looked up again."""
        self.check = check
        self.is_authenticated = check.is_authenticated
        self.use = use
        self.name = name
        """Of its token; None for an anonymous caller. Letters, digits, dots, hyphens and underscores."""
        self.token = token
        """What stands for its token: the `fingerprint`."""
        self.scopes = scopes
        self.ends_at = ends_at
        """Seconds since 1970 at which its token expires."""

    def __repr__(self) -> str:
        return f"<Caller {self.name or 'anonymous'}, {self.check.value}>"

    def may(self, need: Need) -> bool:
        """Whether it has one of the scopes that a request needs."""
        return not self.scopes.isdisjoint(need)


class _Token:
    """An accepted token, with the callers that it makes."""

    __slots__ = ("_acceptance", "_callers", "_names", "digest", "ends_at", "fingerprint", "name", "settings", "use")

    def __init__(
        self, acceptance: Acceptance, settings: TokenSettings, names: Mapping[str, str], use: TokenUse
    ) -> None:
        self._acceptance = acceptance
        self._names = names
        # Each made for the first request that it sends: of a thousand tokens few are in use.
        self._callers: dict[TokenCheck, Caller] = {}
        self.settings = settings
        self.digest = bytes.fromhex(settings.hash.removeprefix(HASH_PREFIX))
        self.fingerprint = fingerprint_of(settings.hash)
        self.use = use
        self.name = name_of(settings)
        self.ends_at = None if settings.expires is None else settings.expires.timestamp()

    def caller(self, check: TokenCheck) -> Caller:
        """The caller that was authenticated, or not, as `check` says."""
        found = self._callers.get(check)
        if found is None:
            is_valid = check.is_authenticated
            found = self._callers[check] = Caller(
                self._acceptance,
                check,
                self.use,
                name=self.name,
                token=self.fingerprint,
                scopes=granted(self.settings.scopes, self._names) if is_valid else frozenset(),
                ends_at=self.ends_at if is_valid else None,
            )
        return found

    def is_over(self, now: float) -> bool:
        ends_at, use = self.ends_at, self.use
        if ends_at is None:
            return False
        if ends_at <= now:
            use.passed = max(use.passed, ends_at)
        return ends_at <= use.passed


class Tokens:
    """The accepted tokens of one configuration. It is never changed; another takes its place."""

    def __init__(
        self,
        tokens: Iterable[TokenSettings | str],
        *,
        enabled: bool = True,
        names: Mapping[str, str] | None = None,
        uses: dict[str, TokenUse] | None = None,
        clock: Callable[[], float] = lambda: utc_now().timestamp(),
    ) -> None:
        """A token that is a text is its hash alone, as `hash_token` makes it.

        With `enabled` false every request is allowed. `names` maps names and aliases of services to their names. `uses` has
        what was counted of each token by its fingerprint, and is given to the next `Tokens` as well. `clock` gives the
        seconds since 1970.
        """
        self.uses = {} if uses is None else uses
        self.acceptance = Acceptance(clock)
        """Another object in each `Tokens`."""
        self.enabled, self._names = enabled, names or {}
        self._by_digest: dict[bytes, _Token] = {}
        for one in tokens:
            settings = TokenSettings(hash=one) if isinstance(one, str) else one
            use = self.uses.setdefault(fingerprint_of(settings.hash), TokenUse())
            token = _Token(self.acceptance, settings, self._names, use)
            # Where a token is listed twice the first one decides.
            self._by_digest.setdefault(token.digest, token)
        self._by_fingerprint = {token.fingerprint: token for token in self._by_digest.values()}
        nobody = self.uses.setdefault("", TokenUse())
        usual = granted(None)
        self._open = Caller(self.acceptance, TokenCheck.OPEN, nobody, scopes=usual)
        self._missing = Caller(self.acceptance, TokenCheck.MISSING, nobody)
        self._wrong = Caller(self.acceptance, TokenCheck.WRONG, nobody)

    def __repr__(self) -> str:
        return f"<Tokens: {len(self._by_digest)} accepted{'' if self.enabled else ', disabled'}>"

    @property
    def anonymous(self) -> Caller:
        """A caller without a token: with authentication switched off it may do everything but what needs `admin`."""
        return self._missing if self.enabled else self._open

    @property
    def listed(self) -> list[tuple[TokenSettings, str, TokenUse]]:
        """Each accepted token, with its fingerprint and what was counted of it."""
        return [(one.settings, one.fingerprint, one.use) for one in self._by_digest.values()]

    def counts(self) -> dict[str, int]:
        """The requests of each caller so far, by name: of several tokens with one name together."""
        found: dict[str, int] = {}
        for token in self._by_digest.values():
            found[token.name] = found.get(token.name, 0) + token.use.requests
        return found

    def is_made_of(self, tokens: Iterable[TokenSettings | str], *, enabled: bool, names: Mapping[str, str]) -> bool:
        """Whether these would be the same, also in where each is from."""
        given = [TokenSettings(hash=one) if isinstance(one, str) else one for one in tokens]
        known = [one.settings for one in self._by_digest.values()]
        return (given, enabled, names) == (known, self.enabled, self._names)

    def replaced_by(self, tokens: Iterable[TokenSettings]) -> Tokens:
        """Others for the same configuration. What is known of each token is kept."""
        return Tokens(tokens, enabled=self.enabled, names=self._names, uses=self.uses, clock=self.acceptance.clock)

    def accepts(self, token: bytes) -> bool:
        """Whether `token` is accepted now."""
        found = self._find(token)
        return found is not None and not found.is_over(self.acceptance.clock())

    def fingerprint(self, token: bytes) -> str | None:
        """What stands for `token` in the tables of sessions and tickets, None where it is not accepted now."""
        found = self._find(token)
        return None if found is None or found.is_over(self.acceptance.clock()) else found.fingerprint

    def has_fingerprint(self, fingerprint: str) -> bool:
        """Whether the token of a fingerprint is accepted now."""
        return self.caller(fingerprint, TokenCheck.BY_SESSION) is not None

    def caller(self, fingerprint: str, check: TokenCheck) -> Caller | None:
        """The caller whose token has this fingerprint; None where it is not accepted now."""
        token = self._by_fingerprint.get(fingerprint) if self.enabled else None
        return None if token is None or token.is_over(self.acceptance.clock()) else token.caller(check)

    def check(self, header: bytes | None, authorization: bytes | None) -> Caller:
        """Who sends a request, by its `X-VX11-Token` and `Authorization` values (raw bytes, None where absent).

        `X-VX11-Token` decides when both are there. An empty token is a missing one. A repeated header is one value with
        commas, and so never an accepted token.
        """
        if not self.enabled:
            return self._open
        if header is not None and header.strip(b" \t,"):
            return self._caller(header, TokenCheck.BY_HEADER)
        if token := _bearer(authorization):
            return self._caller(token, TokenCheck.BY_BEARER)
        return self._missing

    def end_streams(self) -> None:
        """End the streams whose token is no longer accepted, or no longer has what they need."""
        for fingerprint, use in self.uses.items():
            if not use.streams:
                continue
            caller = self.caller(fingerprint, TokenCheck.BY_HEADER)
            for end, needs in list(use.streams.items()):
                if caller is None or not all(map(caller.may, needs)):
                    use.streams.pop(end, None)
                    end()

    def hides(self, authorization: bytes | None) -> bool:
        """Whether `Authorization` holds a token of the gateway, which no service may get, whatever authenticated.

        One that has expired is hidden too, and one in a scheme that the gateway does not take.
        """
        return (
            self.enabled
            and authorization is not None
            and any(self._find(secret) is not None for secret in _secrets(authorization))
        )

    def _caller(self, token: bytes, check: TokenCheck) -> Caller:
        found = self._find(token)
        if found is None:
            return self._wrong
        return found.caller(TokenCheck.EXPIRED if found.is_over(self.acceptance.clock()) else check)

    def _find(self, token: bytes) -> _Token | None:
        digest = sha256(token).digest()
        found = self._by_digest.get(digest)
        return found if found is not None and hmac.compare_digest(found.digest, digest) else None


def name_of(token: TokenSettings) -> str:
    """The name of a token's caller; one without a name has a part of its fingerprint."""
    return token.name or f"token-{fingerprint_of(token.hash)[:8]}"


def fingerprint_of(token_hash: str) -> str:
    """What stands for a token in tables and lists, by its hash.

    Not the hash itself: the database alone does not say which line of a configuration it is.
    """
    return sha256(b"session" + bytes.fromhex(token_hash.removeprefix(HASH_PREFIX))).hexdigest()[:32]


def token_row(token: TokenSettings, age: int | None, now: datetime) -> dict[str, object]:
    """What lists say of a token, as members of JSON. `age` is the seconds since its last use, None for none."""
    return {
        "name": name_of(token),
        "id": fingerprint_of(token.hash)[:8],
        "scopes": None if token.scopes is None else list(token.scopes),
        "created": None if token.created is None else format_moment(token.created),
        "expires": None if token.expires is None else format_moment(token.expires),
        "expired": token.expires is not None and token.expires <= now,
        "last_used_at": None if age is None else format_moment(now - timedelta(seconds=age)),
        "source": token.source,
    }


def _bearer(authorization: bytes | None) -> bytes:
    """The token of `Authorization: Bearer`; empty where there is none."""
    if authorization is None or authorization[:7].lower() != b"bearer ":
        return b""
    return authorization[7:].strip()


def _secrets(authorization: bytes) -> list[bytes]:
    """What may be a token in a value of `Authorization`: all of it, what follows the scheme, the parts of `Basic`."""
    words = authorization.split(None, 1)
    if len(words) == 2 and words[0].lower() == b"basic":
        # What curl and browsers make of the user information in a URL.
        with suppress(ValueError):
            words += b64decode(words[1].strip()).split(b":", 1)
    elif len(words) < 2:
        return words
    return [word.strip() for word in words[1:]]
