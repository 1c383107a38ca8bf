"""How commands speak and end: the option they share, exit codes, the errors that end one, lines on standard error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from tentaculo.config.errors import ConfigError

EXIT_FINDING = 1
"""`check` or `truth` found something."""
EXIT_USAGE = 2
"""Wrong usage, or a configuration with faults."""
EXIT_START = 3
"""Could not start: an address is taken, or the database."""

config_option = click.option(
    "-c",
    "--config",
    "file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The configuration. Default: what TENTACULO_CONFIG names, else ./tentaculo.toml.",
)


class FaultError(click.ClickException):
    """Ends the command with FAULTY and what is wrong on standard error."""

    exit_code = EXIT_USAGE


class StartError(click.ClickException):
    """Ends the command with FAILED and the reason on standard error."""

    exit_code = EXIT_START


def warn(message: str) -> None:
    """One line that does not end the command."""
    click.echo(f"Warning: {message}", err=True)


@contextmanager
def report_config_errors() -> Iterator[None]:
    """List every fault of a configuration that cannot be used, and end with FAULTY."""
    try:
        yield
    except ConfigError as error:
        count = f"{len(error.faults)} fault{'' if len(error.faults) == 1 else 's'}"
        lines = "".join(f"\n  {fault}" for fault in error.faults)
        raise FaultError(f"{error.path or 'the environment'} has {count}{lines}") from None
