"""What all commands share: the option for the configuration, exit codes, errors and warnings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from tentaculo.config.errors import ConfigError

EXIT_FINDING = 1
"""`check` or `truth` found a problem, or a test alert was not delivered."""
EXIT_USAGE = 2
"""Wrong usage, or a faulty configuration."""
EXIT_START = 3
"""The command could not start: the address is in use, or the database is unavailable."""

config_option = click.option(
    "-c",
    "--config",
    "file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Configuration file. Default: the file that TENTACULO_CONFIG names, else ./tentaculo.toml.",
)


class FaultError(click.ClickException):
    """Ends the command with EXIT_USAGE and prints the fault to standard error."""

    exit_code = EXIT_USAGE


class StartError(click.ClickException):
    """Ends the command with EXIT_START and prints the reason to standard error."""

    exit_code = EXIT_START


def warn(message: str) -> None:
    """Print a warning to standard error."""
    click.echo(f"Warning: {message}", err=True)


@contextmanager
def report_config_errors() -> Iterator[None]:
    """Print every fault of a faulty configuration and end the command with EXIT_USAGE."""
    try:
        yield
    except ConfigError as error:
        count = f"{len(error.faults)} fault{'' if len(error.faults) == 1 else 's'}"
        lines = "".join(f"\n  {fault}" for fault in error.faults)
        raise FaultError(f"{error.path or 'the environment'} has {count}{lines}") from None
