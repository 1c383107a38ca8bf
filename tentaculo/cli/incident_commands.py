"""The commands incidents, note, maintenance and alerts. A command imports what it needs when it runs."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path

import click

from tentaculo.cli.output import EXIT_FINDING, Duration, config_option, report_config_errors

_author_option = click.option("--author", default="", metavar="NAME", help="Name of the author. Default: none.")
_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON in the form of the API.")


class _Moment(click.ParamType[datetime]):
    """A time with its offset, as ISO 8601 writes it."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        try:
            return datetime.fromisoformat(str(value))
        except ValueError:
            self.fail("must be a time such as 2026-12-01T02:00:00Z", param, ctx)


@click.command()
@config_option
@click.argument("number", metavar="[ID]", type=click.IntRange(min=0), required=False)
@click.option("--open", "is_open", is_flag=True, help="Only open incidents.")
@click.option("--limit", type=click.IntRange(1, 500), default=20, show_default=True, help="Number of incidents.")
@_json_option
def incidents(file: Path | None, number: int | None, is_open: bool, limit: int, as_json: bool) -> None:
    """Show incidents, the newest first, or the incident with this ID, its notes, and what came before such incidents.

    The command reads the database. The gateway does not need to run.

    \b
    Examples:
      tentaculo incidents --open
      tentaculo incidents 1790000000000
    """
    from tentaculo.cli import incident_actions

    with report_config_errors():
        incident_actions.show_incidents(file, number=number, is_open=is_open or None, limit=limit, as_json=as_json)


@click.command()
@config_option
@click.argument("number", metavar="ID", type=click.IntRange(min=0))
@click.argument("text")
@_author_option
def note(file: Path | None, number: int, text: str, author: str) -> None:
    """Add the note TEXT to the incident with this ID. The status page and the API show it within ten seconds.

    \b
    Example:
      tentaculo note 1790000000000 "The disk was full; made room." --author ana
    """
    from tentaculo.cli import incident_actions

    with report_config_errors():
        incident_actions.add_note(file, number, author, text)


@click.command()
@config_option
@click.argument("number", metavar="ID", type=click.IntRange(min=0))
@click.argument("note", default="")
@click.option("--author", required=True, metavar="NAME", help="Who takes care of it.")
def acknowledge(file: Path | None, number: int, note: str, author: str) -> None:
    """Acknowledge the open incident with this ID, with an optional NOTE. No more reminders are sent for it.

    \b
    Example:
      tentaculo acknowledge 1790000000000 "Looking at the disk." --author ana
    """
    from tentaculo.cli import incident_actions

    with report_config_errors():
        incident_actions.acknowledge(file, number, author, note)


@click.group()
def maintenance() -> None:
    """Maintenance windows. During a window its services are in maintenance and cause no alerts.

    Windows are stored in the database. A running gateway applies a change within ten seconds. Windows that repeat are
    configured with [[maintenance]].
    """


@maintenance.command("add")
@config_option
@click.argument("services", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Every service.")
@click.option("--reason", required=True, metavar="TEXT", help="Reason, as people see it.")
@click.option("--for", "seconds", type=Duration(), metavar="2h", help="Duration: 90s, 30m, 2h or 1d.")
@click.option("--from", "starts_at", type=_Moment(), metavar="TIME", help="Start. Default: now.")
@click.option("--until", "ends_at", type=_Moment(), metavar="TIME", help="End, in place of --for.")
@_author_option
def add_window(
    file: Path | None,
    services: tuple[str, ...],
    everything: bool,
    reason: str,
    seconds: float | None,
    starts_at: datetime | None,
    ends_at: datetime | None,
    author: str,
) -> None:
    """Plan a maintenance window for SERVICES.

    \b
    Examples:
      tentaculo maintenance add hermes --for 2h --reason "a new disk"
      tentaculo maintenance add --all --from 2026-12-01T02:00:00Z --until 2026-12-01T04:00:00Z --reason "moving house"
    """
    if bool(services) is everything:
        raise click.UsageError("needs the names of services, or --all")
    if (seconds is None) is (ends_at is None):
        raise click.UsageError("needs either --for or --until")
    from tentaculo.cli import incident_actions

    with report_config_errors():
        incident_actions.add_window(
            file,
            ["*"] if everything else services,
            reason,
            starts_at=starts_at,
            ends_at=ends_at,
            minutes=None if seconds is None else seconds / 60,
            author=author,
        )


@maintenance.command("list")
@config_option
@_json_option
def list_windows(file: Path | None, as_json: bool) -> None:
    """Show current and planned maintenance windows, including those of the configuration.

    \b
    Example:
      tentaculo maintenance list
    """
    from tentaculo.cli import incident_actions

    with report_config_errors():
        incident_actions.show_windows(file, as_json=as_json)


@maintenance.command("end")
@config_option
@click.argument("number", metavar="ID", type=click.IntRange(min=0, max=2**31 - 1))
def end_window(file: Path | None, number: int) -> None:
    """End the maintenance window with this ID now. A window that has not begun is cancelled.

    \b
    Example:
      tentaculo maintenance end 3
    """
    from tentaculo.cli import incident_actions

    with report_config_errors():
        incident_actions.end_window(file, number)


@click.group()
def alerts() -> None:
    """Alert channels."""


@alerts.command("test")
@config_option
def test_alerts(file: Path | None) -> None:
    """Send one test message on every configured channel and print the results.

    The exit code is 1 if a message was not delivered.

    \b
    Example:
      tentaculo alerts test
    """
    from tentaculo.cli import incident_actions

    with report_config_errors():
        sys.exit(0 if incident_actions.try_alerts(file) else EXIT_FINDING)


@alerts.command("status")
@config_option
@_json_option
def show_channels(file: Path | None, as_json: bool) -> None:
    """Show how many messages each channel has delivered and failed to deliver, and its last error.

    The command reads the database. The gateway does not need to run.

    \b
    Example:
      tentaculo alerts status
    """
    from tentaculo.cli import incident_actions

    with report_config_errors():
        incident_actions.show_channels(file, as_json=as_json)


@alerts.command("secret")
def new_secret() -> None:
    """Make a key that signs webhooks. The receiver needs the same key.

    \b
    Example:
      tentaculo alerts secret
    """
    import base64
    import secrets

    made = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    click.echo(f'For tentaculo.toml, below [alerts.webhooks.<name>], and for the receiver:\n\n  secrets = ["{made}"]')
