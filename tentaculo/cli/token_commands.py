"""The commands `tentaculo token …`. A command imports what it needs when it runs."""

from __future__ import annotations

from pathlib import Path

import click

from tentaculo.cli.output import config_option, report_config_errors

_expires_option = click.option(
    "--expires", metavar="TIME", help="When it ends: 90d, 12h, or a time such as 2027-12-01T00:00:00Z. Default: never."
)
_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def token() -> None:
    """Tokens of the gateway.

    A gateway that runs accepts a change of its token file within two seconds.

    \b
    Examples:
      tentaculo token new ci --scope events:write --expires 90d
      tentaculo token list
      tentaculo token rotate ci --grace 10m
      tentaculo token revoke ci
    """


@token.command("new")
@config_option
@click.argument("name", required=False)
@click.option("--scope", "scopes", multiple=True, metavar="SCOPE", help="What it may do. Default: all but admin.")
@_expires_option
@click.option("--print", "only_print", is_flag=True, help="Print the lines for a configuration; change no file.")
@_json_option
def new(
    file: Path | None,
    name: str | None,
    scopes: tuple[str, ...],
    expires: str | None,
    *,
    only_print: bool,
    as_json: bool,
) -> None:
    """Make a token, print it once, and keep its hash in the token file. Without NAME, print lines for a configuration.

    Scopes are proxy, proxy:SERVICE, events:write, events:read, heartbeat:SERVICE, status, incidents:write and admin.

    \b
    Examples:
      tentaculo token new
      tentaculo token new ci --scope events:write --scope heartbeat:madre
      tentaculo token new ana --scope status --scope incidents:write --scope admin --expires 2027-12-01T00:00:00Z
    """
    from tentaculo.cli import token_actions

    with report_config_errors():
        token_actions.make(
            file, name, scopes or None, expires, keeps=name is not None and not only_print, as_json=as_json
        )


@token.command("list")
@config_option
@_json_option
def list_(file: Path | None, *, as_json: bool) -> None:
    """Show the accepted tokens: their names, scopes, ends, last uses, and where each of them is from.

    \b
    Example:
      tentaculo token list
    """
    from tentaculo.cli import token_actions

    with report_config_errors():
        token_actions.show(file, as_json=as_json)


@token.command("revoke")
@config_option
@click.argument("name")
def revoke(file: Path | None, name: str) -> None:
    """Remove the tokens called NAME, or the one with this id, from the token file.

    \b
    Example:
      tentaculo token revoke ci
    """
    from tentaculo.cli import token_actions

    with report_config_errors():
        token_actions.revoke(file, name)


@token.command("rotate")
@config_option
@click.argument("name")
@click.option("--grace", default="10m", show_default=True, metavar="TIME", help="How long the old token still works.")
@_expires_option
@_json_option
def rotate(file: Path | None, name: str, grace: str, expires: str | None, *, as_json: bool) -> None:
    """Make a new token with the name and the scopes of NAME. The old one ends when the grace is over.

    \b
    Example:
      tentaculo token rotate ci --grace 1h
    """
    from tentaculo.cli import token_actions

    with report_config_errors():
        token_actions.rotate(file, name, grace, expires, as_json=as_json)
