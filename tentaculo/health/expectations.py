"""What is missing in an answer that came as it should: conditions, patience, and a certificate that will hold. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import msgspec

from tentaculo.config.conditions import Condition
from tentaculo.config.probes import ProbeSettings
from tentaculo.health.probes.attempt import ProbeAttempt
from tentaculo.model.health import Health

_DAY = 86400.0


def complaints(attempt: ProbeAttempt, probe: ProbeSettings, now: datetime) -> Iterator[tuple[Health, str]]:
    """Each expectation of `probe` that an answer does not meet: the health that this means, and words for it."""
    yield from _of_text(attempt, probe)
    yield from _of_json(attempt, probe.require, Health.DOWN)
    yield from _of_json(attempt, probe.prefer, Health.DEGRADED)
    if probe.slow is not None and attempt.latency_ms is not None and attempt.latency_ms > probe.slow * 1000:
        yield Health.DEGRADED, f"slower than {probe.slow:g} s"
    if attempt.certificate_ends is not None:
        yield from _of_certificate(attempt.certificate_ends, probe.certificate_days, now)


def _of_text(attempt: ProbeAttempt, probe: ProbeSettings) -> Iterator[tuple[Health, str]]:
    if probe.contains is None and probe.matches is None:
        return
    text = attempt.body.decode(errors="replace")
    if probe.contains is not None and probe.contains not in text:
        yield Health.DOWN, f"without the text {probe.contains}"
    if probe.matches is not None and not probe.matches.is_in(text):
        yield Health.DOWN, f"without a match of {probe.matches.text}"


def _of_json(attempt: ProbeAttempt, conditions: Sequence[Condition], health: Health) -> Iterator[tuple[Health, str]]:
    if not conditions:
        return
    try:
        value: Any = msgspec.json.decode(attempt.body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        yield health, "longer than what is read of it" if attempt.is_cut else "without JSON"
        return
    for condition in conditions:
        if complaint := condition.complaint(value):
            yield health, complaint


def _of_certificate(ends: datetime, least: int, now: datetime) -> Iterator[tuple[Health, str]]:
    days = (ends - now).total_seconds() / _DAY
    if days <= 0:
        yield Health.DOWN, f"its certificate has expired on {ends:%Y-%m-%d}"
    elif days < least:
        left = "less than a day" if days < 1 else "1 day" if days < 2 else f"{int(days)} days"
        yield Health.DEGRADED, f"its certificate holds for {left} only"
