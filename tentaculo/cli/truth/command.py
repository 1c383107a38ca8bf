"""What `tentaculo truth` does: probe the services once, write a report, update the database table."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import msgspec
import uvloop

from tentaculo.cli.output import FaultError, warn
from tentaculo.cli.truth import report
from tentaculo.config.environment import database_url, process_environment
from tentaculo.config.listening import ServerSettings
from tentaculo.config.loader import load_usable
from tentaculo.config.schema import Config
from tentaculo.config.services import ServiceSettings
from tentaculo.health.board import Board
from tentaculo.health.prober import Prober
from tentaculo.model.health import GATEWAY_ALIAS, GATEWAY_NAME, Health, ServiceView
from tentaculo.model.text import utc_now
from tentaculo.store.database import write_services
from tentaculo.store.errors import StoreUnavailable
from tentaculo.tasks import TaskGroup

PATH_TIMEOUT = 3.0
"""Seconds that a probe of one health path may take."""


def is_failure(view: ServiceView) -> bool:
    """Whether an enabled service is down."""
    return view.health is Health.DOWN


async def probe_all(config: Config, on_result: Callable[[ServiceView], None]) -> list[ServiceView]:
    """Probe the gateway and every service once, all at the same time.

    `on_result` receives each service when the probes of all its endpoints are done. The list has the gateway first,
    then the order of the configuration. It omits the gateway if its port is not known (0).
    """
    extended = with_gateway(config)
    board = Board(extended, now=utc_now)
    tasks = TaskGroup("truth")

    async def examine(service: ServiceSettings, prober: Prober) -> None:
        if service.enabled and service.probe.kind != "none":
            for result in await asyncio.gather(*(prober.probe(upstream) for upstream in service.upstreams)):
                board.accept_result(result)
        on_result(_as_found(board.service(service.name), service))

    prober = Prober(extended, path_timeout=PATH_TIMEOUT)
    try:
        await asyncio.gather(
            *(tasks.start(examine(service, prober), service.name) for service in extended.services.values())
        )
    finally:
        await tasks.close()
    return [_as_found(view, extended.services[view.name]) for view in board.snapshot()]


def _as_found(view: ServiceView, service: ServiceSettings) -> ServiceView:
    """A service that is not probed is unknown: the command sees none of its requests."""
    if service.probe.kind != "none" or not service.enabled:
        return view
    return replace(view, health=Health.UNKNOWN, reason="not probed")


def with_gateway(config: Config) -> Config:
    """`config` with the gateway itself as the first service, if its port is known."""
    address = _own_address(config.server)
    if address is None or GATEWAY_NAME in config.services:
        return config
    gateway = ServiceSettings(name=GATEWAY_NAME, aliases=(GATEWAY_ALIAS,), url=address)
    return config.replace(services={GATEWAY_NAME: gateway, **config.services})


def _own_address(server: ServerSettings) -> str | None:
    """URL of the gateway on this machine; None if it takes any free port."""
    host, port = server.host, str(server.port)
    if server.listen:
        host, _, port = server.listen[0].rpartition(":")
    host = host.strip("[]") or "127.0.0.1"
    if port == "0":
        return None
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return f"http://{host}:{port}"
    if address.is_unspecified:
        address = ipaddress.ip_address("127.0.0.1" if address.version == 4 else "::1")
    return f"http://[{address}]:{port}" if address.version == 6 else f"http://{address}:{port}"


_MOST_COMPOSE = 1024 * 1024
"""Largest compose file, in bytes: ten times the size of a large one."""


def truth(file: Path | None, output: Path, *, as_json: bool = False, compose: Path | None = None) -> bool:
    """Return whether every enabled service is healthy and the table was updated. Raises ConfigError and FaultError.

    With `as_json` standard output has one JSON object and nothing else; the rest goes to standard error.
    """
    loaded = load_usable(file)
    for warning in loaded.warnings:
        warn(warning)
    if not loaded.config.services:
        raise FaultError("there is nothing to probe: no services are configured")
    against = None if compose is None else _compare(loaded.config, compose)
    results = uvloop.run(probe_all(loaded.config, lambda view: click.echo(report.line(view), err=as_json)))
    now = utc_now()
    _write(output, report.report(results, now, against))
    written = _bring_up_to_date(loaded.config, results, now)
    if as_json:
        shape = {**report.data(results, now, against), "report": str(output), "table": written}
        click.echo(msgspec.json.encode(shape))
    else:
        counts = ", ".join(f"{count} {word}" for word, count in report.summary(results).items())
        click.echo(f"\n{counts} of {len(results)}. The report is in {output}.")
        if against is not None:
            click.echo(report.drift_summary(against))
        if written is not None:
            click.echo(f"The table has {written['rows']} rows up to date (columns: {', '.join(written['columns'])}).")
    return written is not None and not any(is_failure(view) for view in results)


def _compare(config: Config, file: Path) -> report.Comparison:
    try:
        # Only this option needs it, so it is an extra of the package, as the PostgreSQL driver is.
        import yaml

        from tentaculo.cli.truth import compose_file, compose_variables
    except ImportError:
        raise FaultError("to read a compose file PyYAML is needed: install tentaculo-link[compose]") from None
    try:
        with file.open("rb") as source:
            text = source.read(_MOST_COMPOSE + 1)
        if len(text) > _MOST_COMPOSE:
            raise FaultError(f"{file} is larger than {_MOST_COMPOSE} bytes")
        declared = compose_file.read(compose_file.parse(text), _variables(file.with_name(".env")))
    except OSError as error:
        raise FaultError(f"{file} cannot be read: {error.strerror}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise FaultError(f"{file} is not YAML{f': line {mark.line + 1}' if mark else ''}") from None
    except (compose_variables.ComposeError, ValueError, RecursionError) as error:
        reason = error if isinstance(error, compose_variables.ComposeError) else "it contains an invalid YAML value"
        raise FaultError(f"{file} is not a compose file: {reason}") from None
    return report.Comparison(str(file), report.compare(with_gateway(config), declared, own=GATEWAY_NAME))


def _variables(file: Path) -> dict[str, str]:
    """The variables for a compose file: those of the environment, then those of `.env` beside it, if it is there."""
    from tentaculo.cli.truth.compose_variables import read_env_file

    environ = dict(process_environment())
    if not file.is_file():
        return environ
    try:
        with file.open(encoding="utf-8-sig", errors="replace") as source:
            text = source.read(_MOST_COMPOSE)
    except OSError as error:
        raise FaultError(f"{file} cannot be read: {error.strerror}") from None
    return {**read_env_file(text, environ), **environ}


def _write(output: Path, text: str) -> None:
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise FaultError(f"{output} cannot be written: {error.strerror}") from error


def _bring_up_to_date(config: Config, results: Sequence[ServiceView], now: datetime) -> dict[str, Any] | None:
    """The number of written rows and the written columns; None after a failure, with a warning."""
    try:
        written = write_services(database_url(config), results, now)
    except StoreUnavailable as error:
        warn(f"the table was not brought up to date: {error.detail}")
        return None
    return {"rows": written.rows, "columns": written.columns}
