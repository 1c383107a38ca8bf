"""What `check` and the start of a gateway say of the accepted tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from tentaculo.config.accepted_tokens import TokenSettings, format_moment
from tentaculo.model.text import format_duration
from tentaculo.security.tokens import name_of

SOON = 14
"""Days before its end in which `check` warns of a token."""
MOST_LINES = 20
"""Tokens that `check` and the start show."""


def is_over(token: TokenSettings, now: datetime) -> bool:
    """Whether the token has ended."""
    return token.expires is not None and token.expires <= now


def ends_soon(tokens: Sequence[TokenSettings], now: datetime) -> Iterator[str]:
    """A sentence for each token that has ended, or ends within `SOON` days."""
    for one in tokens:
        if one.expires is None or one.expires > now + timedelta(days=SOON):
            continue
        if is_over(one, now):
            yield f"the token {name_of(one)} ended at {format_moment(one.expires)}: revoke it, or rotate it"
        else:
            left = format_duration((one.expires - now).total_seconds())
            yield f"the token {name_of(one)} ends in {left}, at {format_moment(one.expires)}: rotate it"


def accepted_lines(tokens: Sequence[TokenSettings]) -> Iterator[str]:
    """What is accepted, and where it is from, for `check` and the start. No hash."""
    if len(tokens) > MOST_LINES:
        yield f"{len(tokens)} tokens, of which these are the first {MOST_LINES}; `tentaculo token list` shows all"
    for one in tokens[:MOST_LINES]:
        scopes = ", ".join(one.scopes) if one.scopes is not None else "all but admin"
        ends = "" if one.expires is None else f", until {format_moment(one.expires)}"
        yield f"token {name_of(one)}: {scopes}{ends}, from {one.source}"
