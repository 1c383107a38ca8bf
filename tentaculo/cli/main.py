"""The command line. A command imports what it needs when it runs.

`serve` never imports Alembic, and `check` and `db` never import aiohttp's server.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import ClassVar

import click

from tentaculo import __version__
from tentaculo.cli.output import (
    EXIT_FINDING,
    FaultError,
    StartError,
    config_option,
    report_config_errors,
)

HELP = """Tentáculo Link: a gateway for self-hosted HTTP services.

\b
Examples:
  tentaculo serve                      run the gateway with ./tentaculo.toml
  tentaculo init                       write a commented tentaculo.toml
  tentaculo check -c docker/vx11.toml  show every fault of a configuration

\b
Exit codes:
  0  success
  1  check or truth found a problem, a reload was rejected, or a test alert was not delivered
  2  wrong usage, a faulty configuration, or a gateway that reload cannot ask
  3  the gateway or the command could not start: the address is in use, or the
     database or the gateway is unavailable
"""


def _host(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    from tentaculo.config.types import is_host

    if value is None:
        return None
    host = value[1:-1] if value.startswith("[") and value.endswith("]") else value
    if not is_host(host):
        raise click.BadParameter("must be an address or a host name, without a port")
    return host


_host_option = click.option("--host", callback=_host, help="Address to listen on, in place of the configured one.")
_port_option = click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help="Port to listen on, in place of the configured one; 0 means any free port.",
)


class _Commands(click.Group):
    """All commands. Those of other modules are loaded when they are asked for, since a gateway needs none of them."""

    elsewhere: ClassVar = {
        "acknowledge": "incident_commands",
        "alerts": "incident_commands",
        "config": "config_commands",
        "events": "event_commands",
        "incidents": "incident_commands",
        "maintenance": "incident_commands",
        "note": "incident_commands",
        "status": "status_commands",
        "token": "token_commands",
    }
    """The module of each command that is not in this one."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *self.elsewhere})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.commands and cmd_name in self.elsewhere:
            module = import_module(f"tentaculo.cli.{self.elsewhere[cmd_name]}")
            self.add_command(getattr(module, cmd_name))
        return super().get_command(ctx, cmd_name)


@click.group(
    cls=_Commands,
    help=HELP,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="tentaculo")
def cli() -> None:
    """All commands. The help text is HELP."""


@cli.command()
@config_option
@_host_option
@_port_option
def serve(file: Path | None, host: str | None, port: int | None) -> None:
    """Run the gateway until it receives SIGTERM or SIGINT (Ctrl-C).

    Without a configuration it runs the built-in demonstration.

    \b
    Examples:
      tentaculo serve
      tentaculo serve -c /etc/tentaculo/tentaculo.toml --host 0.0.0.0 --port 80
    """
    from tentaculo.cli import serve

    with report_config_errors():
        serve.serve(file, host, port)


@cli.command()
@_host_option
@_port_option
def demo(host: str | None, port: int | None) -> None:
    """Run the gateway with nine small built-in services.

    It reads no file and keeps nothing: it makes a new token and a temporary database at each start.

    \b
    Examples:
      tentaculo demo
      tentaculo demo --port 8080
    """
    from tentaculo.cli import serve

    with report_config_errors():
        serve.demo(host, port)


@cli.command()
@click.argument("file", type=click.Path(path_type=Path), default=Path("tentaculo.toml"))
def init(file: Path) -> None:
    """Write a configuration with a comment on every key to FILE (default tentaculo.toml).

    An existing file is not changed.

    \b
    Examples:
      tentaculo init
      tentaculo init /etc/tentaculo/tentaculo.toml
    """
    from tentaculo.config.key_reference import example_text

    try:
        with file.open("x", encoding="utf-8") as target:
            target.write(example_text())
    except FileExistsError:
        raise FaultError(f"{file} already exists and was not changed") from None
    except OSError as error:
        raise FaultError(f"{file} cannot be written: {error.strerror}") from None
    click.echo(f"Wrote {file}. Add your services to it, then run: tentaculo check -c {file}")


@cli.command()
@config_option
def check(file: Path | None) -> None:
    """Validate the configuration. Print every fault with its key, or what the gateway will serve.

    \b
    Examples:
      tentaculo check
      tentaculo check -c docker/vx11.toml
    """
    from tentaculo.cli.check import refused_channels, summarise
    from tentaculo.config.errors import ConfigError
    from tentaculo.config.loader import load

    try:
        loaded = load(file)
    except ConfigError as error:
        for fault in error.faults:
            click.echo(str(fault))
        sys.exit(EXIT_FINDING)
    if loaded.path is None and not loaded.config.services:
        click.echo("there is no tentaculo.toml in this folder; `tentaculo init` writes one")
        sys.exit(EXIT_FINDING)
    refused = [*map(str, refused_channels(loaded))]
    for line in refused or summarise(loaded):
        click.echo(line)
    if refused:
        sys.exit(EXIT_FINDING)


@cli.command()
@config_option
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=Path("VX11_RUNTIME_TRUTH_REPORT.md"),
    show_default=True,
    metavar="FILE.md",
    help="Where the report goes.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, and the progress on standard error.")
@click.option(
    "--compose",
    "compose_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Also compare the services with a compose file: ports and health checks.",
)
def truth(file: Path | None, output: Path, as_json: bool, compose_file: Path | None) -> None:
    """Probe every service once, write a report, and update the database table copilot_runtime_services.

    The exit code is 1 if an enabled service is broken, or if the table could not be written. Differences between a
    compose file and the configuration are printed and do not change the exit code.

    \b
    Examples:
      tentaculo truth
      tentaculo truth -c docker/vx11.toml --output docs/audit/truth.md
      tentaculo truth --compose docker/compose.yaml
      tentaculo truth --json | jq .summary
    """
    from tentaculo.cli.truth import command

    with report_config_errors():
        passed = command.truth(file, output, as_json=as_json, compose=compose_file)
    sys.exit(0 if passed else EXIT_FINDING)


@cli.command()
@config_option
@click.option("--url", metavar="URL", help="Address of the gateway, in place of the one in the configuration.")
@click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="File with the token to send, in place of TENTACULO_TOKEN.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the gateway's response, one JSON object.")
def reload(file: Path | None, url: str | None, token_file: Path | None, as_json: bool) -> None:
    """Have the gateway that runs read its configuration again. No connection is cut.

    The token in TENTACULO_TOKEN must have the scope admin. The exit code is 0 if the gateway serves the new
    configuration; 1 if that has faults or could not be applied, and nothing was changed; 2 if the gateway could not be
    asked.

    \b
    Examples:
      tentaculo reload
      tentaculo reload -c /etc/tentaculo/tentaculo.toml
      tentaculo reload --url https://gateway.example.org --token-file admin-token --json
    """
    from tentaculo.cli import reload_request

    if not reload_request.reload(file, url, token_file, as_json=as_json):
        sys.exit(EXIT_FINDING)


@cli.group()
def db() -> None:
    """The database's schema.

    \b
    Examples:
      tentaculo db upgrade
      tentaculo db current -c /etc/tentaculo/tentaculo.toml
    """


@db.command()
@config_option
def upgrade(file: Path | None) -> None:
    """Bring the database schema up to date. The existing table of an older VX11 stays as it is.

    \b
    Example:
      tentaculo db upgrade
    """
    with report_config_errors(), _database(file) as url:
        from tentaculo.store import migrate

        migrate.upgrade(url)
        click.echo(f"The database is at revision {migrate.current(url)}.")


# `-1` is a revision, not an option.
@db.command(context_settings={"ignore_unknown_options": True})
@config_option
@click.argument("revision")
def downgrade(file: Path | None, revision: str) -> None:
    """Bring the database schema back to REVISION. `base` is before the first revision, `-1` is one step.

    Tables and columns that the later revisions added are removed with their content.

    \b
    Example:
      tentaculo db downgrade base
    """
    with report_config_errors(), _database(file) as url:
        from tentaculo.store import migrate

        migrate.downgrade(url, revision)
        click.echo(f"The database is at {_revision(migrate.current(url))}.")


@db.command()
@config_option
def current(file: Path | None) -> None:
    """Print the revision of the database schema.

    \b
    Example:
      tentaculo db current
    """
    with report_config_errors(), _database(file) as url:
        from tentaculo.store import migrate

        click.echo(f"The database is at {_revision(migrate.current(url))}.")


def _revision(found: str | None) -> str:
    return "no revision" if found is None else f"revision {found}"


@contextmanager
def _database(file: Path | None) -> Iterator[str]:
    from tentaculo.config.environment import database_url
    from tentaculo.config.loader import load_usable
    from tentaculo.store.errors import StoreUnavailable

    try:
        yield database_url(load_usable(file).config)
    except StoreUnavailable as error:
        raise StartError(error.detail or error.failure.title) from None
