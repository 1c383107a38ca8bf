"""The commands of the status pages. They import what they need when they run."""

from __future__ import annotations

from pathlib import Path

import click

from tentaculo.cli.output import config_option, report_config_errors


@click.group()
def status() -> None:
    """The status pages."""


@status.command("export")
@config_option
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@click.option("--url", metavar="URL", help="Address of the gateway. Default: that of the configuration.")
@click.option("--token", metavar="TOKEN", help="Token. Others can see it here; better set TENTACULO_TOKEN.")
def export_pages(file: Path | None, folder: Path, url: str | None, token: str | None) -> None:
    """Write the status pages to DIR as files that need no gateway, for a web server or an object storage elsewhere.

    A gateway cannot report its own failure. Without --url, the pages are made from the database if the gateway does not
    respond, and say so. Files of an earlier export that no longer exist are removed; other files are never changed.

    \b
    Examples:
      tentaculo status export /var/www/status
      tentaculo status export copy --url https://gateway.example.org
    """
    from tentaculo.cli import status_export

    with report_config_errors():
        status_export.export(folder, file, url, token)
