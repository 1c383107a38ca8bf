"""The tokens that a configuration accepts, in `[auth]` and in the token file: hashes with a name, scopes and an end.

A line of the token file is a hash, alone or with more:

    sha256:… name=ci scopes=events:write,heartbeat:madre created=2026-11-29T03:30:00Z expires=2027-11-29T00:00:00Z
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from tentaculo.config.errors import ConfigError
from tentaculo.config.incidents import Moment
from tentaculo.config.reader import read
from tentaculo.config.section import INTERNAL, NOT_EMPTY, Check, Doc, Prepare, Section
from tentaculo.config.types import TokenHash
from tentaculo.model.access import Access
from tentaculo.model.scopes import PLAIN, is_scope

DEFAULT_TOKEN_FILE = Path("data/token")
"""Default of `auth.token_file`, relative to the folder of the configuration file."""
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_LINE_KEYS = ("name", "scopes", "created", "expires")


def is_token_name(value: str) -> bool:
    """Whether `value` can name a token: it stands in logs, metrics and events as it is."""
    return _NAME.fullmatch(value) is not None


def _check_name(value: str) -> str:
    if not is_token_name(value):
        raise ValueError("must be letters, digits, dots, hyphens and underscores, 1 to 64 of them")
    return value


def _check_scope(value: str) -> str:
    if not is_scope(value):
        raise ValueError(f"must be one of {', '.join(PLAIN)}, proxy:SERVICE or heartbeat:SERVICE")
    return value


def _check_zone(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError("must name its zone, such as 2026-12-01T02:00:00Z")
    return value


def _as_table(value: Any) -> Any:
    return {"hash": value} if isinstance(value, str) else value


Scope = Annotated[str, Check(_check_scope)]
TokenName = Annotated[str, Check(_check_name, {"pattern": f"^{_NAME.pattern}$"})]
TokenMoment = Annotated[Moment, Check(_check_zone)]


class TokenSettings(Section, frozen=True):
    """[[auth.tokens]]: an accepted token."""

    hash: Annotated[
        TokenHash,
        Doc(
            "Hash of the token, sha256: and 64 hex digits, as `tentaculo token new` prints it.",
            example="sha256:" + 64 * "0",
        ),
    ]
    name: Annotated[
        TokenName | None,
        Doc(
            "Name of the caller, in logs, metrics and events. Two tokens of one caller may have the same.",
            default="made from the hash",
            example="ci",
        ),
    ] = None
    scopes: Annotated[
        Annotated[tuple[Scope, ...], NOT_EMPTY] | None,
        Doc(
            "What the token may do: `proxy`, `proxy:SERVICE`, `events:write`, `events:read`, `heartbeat:SERVICE`, `status`,"
            " `incidents:write`, `admin`.",
            default="every scope but admin",
            example=["events:write", "heartbeat:example"],
        ),
    ] = None
    created: Annotated[
        TokenMoment | None,
        Doc("When the token was made. Shown only.", example=datetime(2026, 12, 1, 2, tzinfo=UTC)),
    ] = None
    expires: Annotated[
        TokenMoment | None,
        Doc("When the token ends, by the system's clock.", example=datetime(2027, 12, 1, 2, tzinfo=UTC)),
    ] = None
    source: Annotated[str, INTERNAL] = ""
    """Where it is from, for people."""


AcceptedTokens = Sequence[TokenSettings | str]
"""Accepted tokens, each with what is known of it, or its hash alone."""
ListedToken = Annotated[TokenSettings, Prepare(_as_table, {"type": "string", "pattern": "^sha256:[0-9a-fA-F]{64}$"})]
"""A token in `auth.tokens`: a table, or its hash alone."""


def parse_line(line: str) -> TokenSettings | None:
    """The token of a line of the token file, None for an empty line and a comment. Raises ValueError with every fault.

    No message repeats a value: a plain token may stand there by mistake.
    """
    hash_, *rest = line.split()[:64] or ("#",)
    if hash_.startswith("#"):
        return None
    table: dict[str, Any] = {"hash": hash_}
    for part in rest:
        key, equals, value = part.partition("=")
        if not equals or key not in _LINE_KEYS or key in table:
            raise ValueError(
                f"has a part that is none of {', '.join(f'{one}=' for one in _LINE_KEYS)}, or has it twice"
            )
        table[key] = value.split(",") if key == "scopes" else value
    try:
        return read(TokenSettings, table)
    except ConfigError as error:
        raise ValueError("; ".join(f"{fault.path} {fault.message}" for fault in error.faults)) from None


def format_line(token: TokenSettings) -> str:
    """The line of a token."""
    parts = [token.hash]
    if token.name is not None:
        parts.append(f"name={token.name}")
    if token.scopes is not None:
        parts.append(f"scopes={','.join(token.scopes)}")
    for key, moment in (("created", token.created), ("expires", token.expires)):
        if moment is not None:
            parts.append(f"{key}={format_moment(moment)}")
    return " ".join(parts)


def token_lines(tokens: AcceptedTokens) -> frozenset[str]:
    """What tells accepted tokens apart from others: a line for each, without where it is from."""
    return frozenset(one if isinstance(one, str) else format_line(one) for one in tokens)


def format_moment(moment: datetime) -> str:
    """A time in UTC, to the second."""
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


class AuthSettings(Section, frozen=True):
    """[auth]: which tokens are accepted."""

    enabled: Annotated[bool, Doc("Whether a request needs a token.", active=True)] = True
    tokens: Annotated[
        tuple[ListedToken, ...],
        Doc(
            'Accepted tokens, one table each. In place of a table there may be the hash alone: `tokens = ["sha256:…"]`.'
        ),
    ] = ()
    token_file: Annotated[
        Path | None,
        Doc(
            "File with one accepted token a line, which `tentaculo token` changes. The first start makes it if there is no"
            " token.",
            default="data/token",
            example="data/token",
        ),
    ] = None
    share_token: Annotated[
        bool, Doc("Whether the gateway sends its own token (TENTACULO_TOKEN) to services without a token of their own.")
    ] = False
    open_websocket: Annotated[bool, Doc("Whether /ws needs no token.")] = False
    open_status: Annotated[bool, Doc("Whether /status needs no token.")] = True

    def opens(self, access: Access) -> bool:
        """Whether routes with this access need no token, where others do."""
        opened = {"always": True, "open_status": self.open_status, "open_websocket": self.open_websocket, None: False}
        return opened[access.opened_by]
