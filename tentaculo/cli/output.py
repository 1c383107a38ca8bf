"""What commands share: the option for the configuration, durations, exit codes, errors and warnings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

import click

from tentaculo.config.errors import ConfigError
from tentaculo.model.text import printable

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
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"(\d{1,6})([smhd])")


class Duration(click.ParamType[float]):
    """`90s`, `30m`, `2h`, `1d`, as seconds."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The duration that `value` says."""
        found = _DURATION.fullmatch(str(value))
        if found is None:
            self.fail("must be a number and a unit: 90s, 30m, 2h or 1d", param, ctx)
        return float(found[1]) * _UNITS[found[2]]


class FaultError(click.ClickException):
    """Ends the command with EXIT_USAGE and prints the fault to standard error."""

    exit_code = EXIT_USAGE


class StartError(click.ClickException):
    """Ends the command with EXIT_START and prints the reason to standard error."""

    exit_code = EXIT_START


def split_url(url: str) -> SplitResult:
    """The parts of the address of a gateway, with a host and a valid port. Raises `FaultError` for anything else."""
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address or parts.query or parts.fragment:
        raise FaultError(f"--url must be an address such as http://127.0.0.1:8000, not {printable(url, 120)}")
    return parts


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
