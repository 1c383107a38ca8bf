"""The command events. It imports what it needs when it runs."""

from __future__ import annotations

from pathlib import Path

import click

from tentaculo.cli.output import Duration, config_option, report_config_errors


@click.command()
@config_option
@click.option("--follow", "-f", is_flag=True, help="Continue with each new event, until Ctrl-C.")
@click.option("--type", "types", multiple=True, metavar="TYPE", help="Only events of this type. Can be repeated.")
@click.option("--source", "sources", multiple=True, metavar="NAME", help="Only events of this source. Can be repeated.")
@click.option("--text", default="", metavar="TEXT", help="Only events that contain this text.")
@click.option("--since", type=Duration(), metavar="1h", help="Only events of this time: 90s, 30m, 2h or 1d.")
@click.option(
    "--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="Number of stored events."
)
@click.option("--json", "as_json", is_flag=True, help="Print each event as a line of JSON, in the form of the API.")
@click.option("--url", metavar="URL", help="Address of the gateway. Default: that of the configuration.")
@click.option("--token", metavar="TOKEN", help="Token. Others can see it here; better set TENTACULO_TOKEN.")
def events(
    file: Path | None,
    follow: bool,
    types: tuple[str, ...],
    sources: tuple[str, ...],
    text: str,
    since: float | None,
    limit: int,
    as_json: bool,
    url: str | None,
    token: str | None,
) -> None:
    """Show the newest stored events, the oldest of them first. The gateway must run.

    With --follow the command survives a restart of the gateway and misses no event.

    \b
    Examples:
      tentaculo events --since 1h --type spawn_failure
      tentaculo events --follow --source madre --json
    """
    from tentaculo.cli import event_log

    with report_config_errors():
        gateway = event_log.find_gateway(file, url, token)
    query = [*(("type", type_) for type_ in types), *(("source", source) for source in sources)]
    if text:
        query.append(("text", text))
    event_log.show_events(gateway, query, since=since, limit=limit, follow=follow, as_json=as_json)
