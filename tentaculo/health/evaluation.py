"""What a probe's attempts say of an upstream: one result, with a reason in words. Pure.

Everything in a body is untrusted: it is bounded before it comes here, and only ever becomes one of a few known words
or a short line of printable text.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import msgspec

from tentaculo.config.probes import ProbeSettings
from tentaculo.health.expectations import complaints
from tentaculo.health.probes.attempt import ProbeAttempt
from tentaculo.model.endpoint import Endpoint
from tentaculo.model.health import Health, ProbeResult
from tentaculo.model.text import printable

SNIPPET = 200
"""Characters of a body that are kept to be shown."""

_GOOD = frozenset({"ok", "healthy", "pass", "up"})
_WEAK = frozenset({"degraded", "warn", "warning"})
_BAD = frozenset({"error", "down", "fail", "unhealthy", "critical"})

# What a person can do about a status; others speak for themselves.
_HINTS = {401: "check the service's token", 403: "check the service's token"}


_PLAIN = ProbeSettings()
_GRAVEST_FIRST = (Health.DOWN, Health.DEGRADED)


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
    return printable(text)[:SNIPPET] or None


def evaluate(
    upstream: Endpoint,
    attempts: Sequence[ProbeAttempt],
    checked_at: datetime,
    secret: str = "",
    probe: ProbeSettings = _PLAIN,
) -> ProbeResult:
    """The result of a probe from its attempts, in order; only the last one can be a success.

    `probe` says what is expected of that answer besides.
    """
    shown = attempts[-1] if attempts[-1].is_answered else max(attempts, key=_telling)
    if shown.is_answered:
        health, reason = _answered(shown, probe, checked_at)
    else:
        health = Health.UNKNOWN if attempts[-1].is_gateway_fault else Health.DOWN
        reason = _failed(attempts)
    return ProbeResult(
        upstream,
        health,
        reason,
        checked_at,
        endpoint=shown.path or None,
        code=shown.code,
        latency_ms=shown.latency_ms,
        snippet=snippet(shown.body, secret),
    )


def _telling(attempt: ProbeAttempt) -> int:
    """A path that does not exist tells less than one that fails; no answer at all gives nothing to show."""
    return 0 if attempt.code is None else 1 if attempt.code == 404 else 2


def _answered(attempt: ProbeAttempt, probe: ProbeSettings, now: datetime) -> tuple[Health, str]:
    stated, word = stated_health(attempt.body)
    found: list[tuple[Health, str]] = [] if stated is Health.UP else [(stated, f"calls itself {word}")]
    found += complaints(attempt, probe, now)
    took = "" if attempt.latency_ms is None else f" in {attempt.latency_ms} ms"
    health = min((health for health, _ in found), key=_GRAVEST_FIRST.index, default=Health.UP)
    words = ", but " + "; ".join(words for _, words in found) if found else ""
    return health, f"{attempt.words}{took}{words}"


def _failed(attempts: Sequence[ProbeAttempt]) -> str:
    """`answered 404 at /health and /healthz; answered 503 at /status`; no path where the address itself failed."""
    last = attempts[-1]
    if last.is_final and all(attempt.words == last.words for attempt in attempts):
        return last.words
    paths: dict[str, list[str]] = {}
    for attempt in attempts:
        paths.setdefault(attempt.words, []).append(attempt.path)
    parts = [f"{words} at {_listed(where)}" for words, where in paths.items()]
    parts += dict.fromkeys(_HINTS[attempt.code] for attempt in attempts if attempt.code in _HINTS)
    return "; ".join(parts)


def _listed(items: Iterable[str]) -> str:
    *first, last = items
    return f"{', '.join(first)} and {last}" if first else last
