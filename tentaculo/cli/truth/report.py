"""What runtime truth found: a line for the terminal, a report in Markdown for people, and data for programs."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from tentaculo.cli.truth.drift import Drift
from tentaculo.model.health import Health, ServiceView, words_of

_SNIPPET = 80
_NOTHING = "—"
_COLUMNS = ("Service", "Port", "Status", "HTTP Code", "Latency (ms)", "Endpoint", "Snippet")
_DRIFT_COLUMNS = ("Service", "Port", "Port in compose", "Health", "Health check in compose", "Difference")
_WORDS = ("OK", "BROKEN", "UNKNOWN")
# An underscore within a word marks nothing up, and names are to be found by searching for them.
_MARKUP = re.compile(r"[\\$`*\[\]|~]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")


@dataclass(frozen=True, slots=True)
class Comparison:
    """The drift against one compose file."""

    file: str
    drifts: Sequence[Drift]


def word(health: Health) -> str:
    """The report's word for a health: OK, BROKEN or UNKNOWN."""
    return words_of(health).truth


def line(view: ServiceView) -> str:
    """One service for the terminal: `✓ madre (8001)  OK  answered 200 in 4 ms at /health`."""
    place = f" at {view.endpoint}" if view.health.is_healthy and view.endpoint else ""
    return f"{words_of(view.health).mark} {f'{view.name} ({view.port})':<24} {word(view.health):<8} {view.full_reason}{place}"


def summary(results: Sequence[ServiceView]) -> dict[str, int]:
    """How many services there are of each of the report's words."""
    words = [word(view.health) for view in results]
    return {name: words.count(name) for name in _WORDS}


def report(results: Sequence[ServiceView], at: datetime, against: Comparison | None = None) -> str:
    """The report in Markdown, with the columns and the summary of version 7.0. `at` is timezone-aware.

    Text that comes from a service, or from a compose file, is escaped: in the report it is text and nothing else.
    """
    counts = summary(results)
    off = [view.name for view in results if view.health is Health.OFF]
    purpose = f" (off on purpose: {', '.join(map(_escape, off))})" if off else ""
    wrong = [view for view in results if view.health in (Health.DOWN, Health.DEGRADED)]
    lines = [
        "# VX11 runtime truth",
        "",
        f"**Date:** {at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC",
        "",
        *_table(_COLUMNS, (_row(view) for view in results)),
        "",
        "## Summary",
        "",
        *(f"- **{name}:** {count} of {len(results)}" for name, count in counts.items()),
    ]
    lines[-1] += purpose
    if wrong:
        lines += ["", "## What is wrong", ""]
        lines += [f"- **{_escape(view.name)}** ({view.port}): {_escape(view.full_reason)}" for view in wrong]
    if against is not None:
        lines += ["", "## Drift", "", _escape(drift_summary(against)), ""]
        lines += _table(_DRIFT_COLUMNS, (_drift_row(drift) for drift in against.drifts))
    return "\n".join(lines) + "\n"


def data(results: Sequence[ServiceView], at: datetime, against: Comparison | None = None) -> dict[str, Any]:
    """The same for programs, made of what JSON has and times."""
    shape: dict[str, Any] = {
        "timestamp": at,
        "services": [
            {
                "service": view.name,
                "port": view.port,
                "status": word(view.health),
                "health": view.health.value,
                "reason": view.full_reason,
                "http_code": view.code,
                "latency_ms": view.latency_ms,
                "endpoint": view.endpoint,
                "snippet": view.snippet,
            }
            for view in results
        ],
        "summary": {**summary(results), "total": len(results)},
    }
    if against is not None:
        shape["drift"] = {"file": against.file, "services": [asdict(drift) for drift in against.drifts]}
    return shape


def drift_summary(against: Comparison) -> str:
    """How many services the compose file has otherwise, in a sentence."""
    count = sum(bool(drift.differences) for drift in against.drifts)
    return f"{count or 'None'} of {len(against.drifts)} services differ{'s' if count == 1 else ''} from {against.file}."


def _table(columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (columns, ("---",) * len(columns), *rows)]


def _drift_row(drift: Drift) -> tuple[str, ...]:
    cells = (
        drift.service,
        ", ".join(map(str, drift.ports)),
        ", ".join(drift.compose_ports),
        ", ".join(drift.health),
        drift.compose_check,
        "; ".join(drift.differences),
    )
    return tuple(_escape(cell or _NOTHING) for cell in cells)


def _row(view: ServiceView) -> tuple[str, ...]:
    status = word(view.health)
    if view.health is Health.OFF:
        status += " (off on purpose)"
    elif view.health is Health.DEGRADED:
        status += " (degraded)"
    snippet = view.snippet or ""
    cut = snippet if len(snippet) <= _SNIPPET else snippet[: _SNIPPET - 1] + "…"
    return (
        _escape(view.name),
        str(view.port),
        status,
        _NOTHING if view.code is None else str(view.code),
        _NOTHING if view.latency_ms is None else str(view.latency_ms),
        _escape(view.endpoint or _NOTHING),
        _escape(cut or _NOTHING),
    )


def _escape(text: str) -> str:
    """`text` as the content of one cell: a single line without markup or HTML."""
    return _MARKUP.sub(r"\\\g<0>", html.escape(" ".join(text.split()), quote=False))
