"""What `tentaculo truth` does: the fleet asked once, a report written, the database's table brought up to date."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click
import uvloop

from tentaculo.config.database import database_url
from tentaculo.config.load import load
from tentaculo.console import FaultError, warn
from tentaculo.health import truth as health
from tentaculo.store.database import write_services
from tentaculo.store.faults import StoreUnavailable


def truth(file: Path | None, output: Path) -> bool:
    """Whether all that should be on is well, and is in the table. Raises ConfigError and FaultError."""
    loaded = load(file)
    for warning in loaded.warnings:
        warn(warning)
    if not loaded.config.services:
        raise FaultError("there is no fleet to ask: no services are configured")
    results = uvloop.run(health.run(loaded.config, lambda view: click.echo(health.line(view))))
    now = datetime.now(UTC)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(health.report(results, now), encoding="utf-8")
    except OSError as error:
        raise FaultError(f"{output} cannot be written: {error.strerror}") from error
    counts = ", ".join(f"{count} {word}" for word, count in health.summary(results).items())
    click.echo(f"\n{counts} of {len(results)}. The report is in {output}.")
    try:
        written = write_services(database_url(loaded.config), results, now)
    except StoreUnavailable as error:
        warn(f"the table was not brought up to date: {error.detail}")
        return False
    click.echo(f"The table has {written.rows} rows up to date (columns: {', '.join(written.columns)}).")
    return not any(health.is_failure(view) for view in results)
