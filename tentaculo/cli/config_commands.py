"""`tentaculo config`: the form of the configuration, and where its values are from."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tentaculo.cli.output import EXIT_FINDING, FaultError, config_option, report_config_errors

if TYPE_CHECKING:
    from tentaculo.config.effective import Difference
    from tentaculo.config.errors import KeyPath
    from tentaculo.config.layers import Layered
    from tentaculo.config.loader import Loaded


@click.group("config")
def config() -> None:
    """The configuration: its form, its values, and where they are from.

    \b
    Examples:
      tentaculo config show --from
      tentaculo config diff
      tentaculo config schema > tentaculo.schema.json
    """


@config.command("schema")
def schema() -> None:
    """Print the JSON Schema of the configuration. Editors use it to complete and to validate TOML.

    \b
    Example:
      tentaculo config schema > tentaculo.schema.json
    """
    from tentaculo.config.key_reference import json_schema_text

    click.echo(json_schema_text(), nl=False)


@config.command("show")
@config_option
@click.option("--from", "with_sources", is_flag=True, help="Say where each value is from.")
@click.option("--all", "with_defaults", is_flag=True, help="Also show the defaults of keys that nothing sets.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def show(file: Path | None, with_sources: bool, with_defaults: bool, as_json: bool) -> None:
    """Print the configuration as a start would read it: file, changes, environment and overrides. Secrets are masked.

    \b
    Examples:
      tentaculo config show
      tentaculo config show --from -c /etc/tentaculo/tentaculo.toml
    """
    from tentaculo.config.effective import effective_values, sources_of, with_all_defaults
    from tentaculo.config.masking import masked
    from tentaculo.config.toml_text import toml_text

    layered = _layered(_load(file))
    values = effective_values(layered)
    values = masked(with_all_defaults(values) if with_defaults else values)
    if as_json:
        shown: Any = values
        if with_sources:
            shown = {"config": values, "from": {key: str(one) for key, one in sources_of(layered, values).items()}}
        click.echo(json.dumps(shown, ensure_ascii=False, indent=2, default=str))
        return

    def comment(place: KeyPath) -> str:
        return str(layered.source(_named(place))) if with_sources and not _is_table(values, place) else ""

    click.echo(toml_text(values, comment), nl=False)


@config.command("diff")
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def diff(file: Path | None, as_json: bool) -> None:
    """Print in what the configuration differs from its file, and which layer is the reason. Secrets are masked.

    \b
    Examples:
      tentaculo config diff
      tentaculo config diff --json | jq .
    """
    from tentaculo.config.effective import differences

    found = list(differences(_layered(_load(file))))
    if as_json:
        click.echo(json.dumps([_as_json(one) for one in found], ensure_ascii=False, indent=2, default=str))
        return

    def line(one: Difference) -> str:
        mark = "+" if one.is_added else "-" if one.is_removed else "~"
        change = f"{one.before} → {one.after}" if mark == "~" else one.after if mark == "+" else one.before
        return f"{mark} {one.name} = {change}  ({one.source})"

    for one in found:
        click.echo(line(one))
    if not found:
        click.echo("The configuration is as its file says.")


def _as_json(one: Difference) -> dict[str, Any]:
    from tentaculo.config.merge_patch import MISSING

    before, after = (None if value is MISSING else value for value in (one.in_file, one.effective))
    return {"key": one.name, "file": before, "effective": after, "from": str(one.source)}


@config.command("export")
@config_option
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Where it is written. A new file can be read by its owner only. Default: standard output.",
)
@click.option("--secrets", is_flag=True, help="Write secrets as they are. Without this they are masked, in comments.")
def export(file: Path | None, output: Path | None, secrets: bool) -> None:
    """Print TOML that can replace the configuration file: the file with the changes, without environment and overrides.

    Comments and the order of the file are not kept.

    \b
    Examples:
      tentaculo config export
      tentaculo config export --secrets -o new.toml && tentaculo check -c new.toml
    """
    from tentaculo.config.effective import export_text

    loaded = _load(file)
    if output is not None and not secrets and loaded.path is not None and output.resolve() == loaded.path.resolve():
        raise FaultError(f"{output} is the configuration file, and would lose its secrets: add --secrets")
    text = export_text(_layered(loaded), with_secrets=secrets)
    if output is None:
        click.echo(text, nl=False)
        return
    from tentaculo.config.files import keep_access, replace_file, replaceable

    try:
        replace_file(replaceable(output), text.encode(), keep_access)
    except OSError as error:
        raise FaultError(f"{output} cannot be written: {error.strerror}") from None
    click.echo(f"Wrote {output}.")


def _load(file: Path | None) -> Loaded:
    from tentaculo.config.loader import load_usable

    with report_config_errors():
        return load_usable(file)


def _layered(loaded: Loaded) -> Layered:
    """Its layers. Ends with EXIT_FINDING where the changes cannot be applied: what is shown would not be all."""
    from tentaculo.config.environment import process_environment

    if loaded.sources.refused:
        for fault in loaded.sources.refused:
            click.echo(str(fault), err=True)
        raise SystemExit(EXIT_FINDING)
    return loaded.sources.layered(process_environment(), datetime.now(UTC))


def _named(place: KeyPath) -> KeyPath:
    """The part of a path before the first place in a list: lists are set as a whole."""
    numbers = [n for n, part in enumerate(place) if isinstance(part, int)]
    return place[: numbers[0]] if numbers else place


def _is_table(values: dict[str, Any], place: KeyPath) -> bool:
    from tentaculo.config.merge_patch import value_at

    return isinstance(value_at(values, place), dict)
