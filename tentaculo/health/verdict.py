"""What a probe's attempts say of an upstream: one result, with a reason in words. Pure.

Everything in a body is untrusted: it is bounded before it comes here, and only ever becomes one of a few known words
or a short line of printable text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from tentaculo.model import Health, ProbeResult, Upstream

SNIPPET = 200
"""Characters of a body that are kept to be shown."""

_GOOD = frozenset({"ok", "healthy", "pass", "up"})
_WEAK = frozenset({"degraded", "warn", "warning"})
_BAD = frozenset({"error", "down", "fail", "unhealthy", "critical"})

# What a person can do about a status; others speak for themselves.
_HINTS = {401: "check the service's token", 403: "check the service's token"}


@dataclass(slots=True)
class Attempt:
    """One request of a probe to one health path, filled in as it proceeds."""

    path: str
    connected: bool = False
    code: int | None = None
    """HTTP status, None until the head of an answer came."""
    latency_ms: int | None = None
    """From before connecting until the answer was read; None where it was not."""
    body: bytes = b""
    """The first bytes of the answer, as plain text or JSON; empty where it is encoded otherwise."""
    problem: str | None = None
    """In words, why the answer did not come whole."""
    is_final: bool = False
    """Whether another path of the same address would fare no better."""
    is_ours: bool = False
    """Whether the gateway itself could not ask, which says nothing of the service."""

    @property
    def is_answered(self) -> bool:
        """Whether a whole answer with status 200 came."""
        return self.code == 200 and self.problem is None

    @property
    def words(self) -> str:
        """What happened, in words, without the path."""
        return self.problem or f"answered {self.code}"


class _Body(msgspec.Struct):
    status: Any = None


def stated_health(body: bytes) -> tuple[Health, str]:
    """The health that a 200 states in its JSON `status`, and the word for it.

    A body that is a list, no JSON, or says nothing known is a plain 200: up, with an empty word.
    """
    try:
        status = msgspec.json.decode(body, type=_Body).status
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return Health.UP, ""
    word = status.strip().lower() if isinstance(status, str) else ""
    if word in _BAD:
        return Health.DOWN, word
    if word in _WEAK:
        return Health.DEGRADED, word
    return Health.UP, word if word in _GOOD else ""


def snippet(body: bytes, secret: str = "") -> str | None:
    """The first characters of a body as one line of printable text, None where there are none.

    `secret` is taken out: a service that echoes its request must not put its token on the status page.
    """
    text = body[: 16 * SNIPPET].decode(errors="replace")
    if secret:
        text = text.replace(secret, "[token]")
    line = " ".join("".join(c if c.isprintable() else " " if c.isspace() else "" for c in text).split())
    return line[:SNIPPET] or None


def judge(upstream: Upstream, attempts: Sequence[Attempt], checked_at: datetime, secret: str = "") -> ProbeResult:
    """The result of a probe from its attempts, in order; only the last one can have been answered with 200."""
    shown = attempts[-1] if attempts[-1].is_answered else max(attempts, key=_telling)
    if shown.is_answered:
        health, reason = _answered(shown)
    else:
        health = Health.UNKNOWN if attempts[-1].is_ours else Health.DOWN
        reason = _failed(attempts)
    return ProbeResult(
        upstream,
        health,
        reason,
        checked_at,
        endpoint=shown.path,
        code=shown.code,
        latency_ms=shown.latency_ms,
        snippet=snippet(shown.body, secret),
    )


def _telling(attempt: Attempt) -> int:
    """A path that does not exist tells less than one that fails; no answer at all gives nothing to show."""
    return 0 if attempt.code is None else 1 if attempt.code == 404 else 2


def _answered(attempt: Attempt) -> tuple[Health, str]:
    health, word = stated_health(attempt.body)
    reason = f"{attempt.words} in {attempt.latency_ms} ms"
    return health, reason if health is Health.UP else f"{reason}, but calls itself {word}"


def _failed(attempts: Sequence[Attempt]) -> str:
    """`answered 404 at /health and /healthz; answered 503 at /status`; no path where the address itself failed."""
    last = attempts[-1]
    if last.is_final and all(attempt.words == last.words for attempt in attempts):
        return last.words
    paths: dict[str, list[str]] = {}
    for attempt in attempts:
        paths.setdefault(attempt.words, []).append(attempt.path)
    told = [f"{words} at {_listed(where)}" for words, where in paths.items()]
    told += dict.fromkeys(_HINTS[attempt.code] for attempt in attempts if attempt.code in _HINTS)
    return "; ".join(told)


def _listed(items: Iterable[str]) -> str:
    *first, last = items
    return f"{', '.join(first)} and {last}" if first else last
