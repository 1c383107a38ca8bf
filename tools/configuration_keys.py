"""Bring the list of keys in docs/configuration.md up to date: `python -m tools.configuration_keys`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tentaculo.config.environment import variable_name
from tentaculo.config.key_reference import ANY, Key, KeyKind, walk

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "configuration.md"
BEGIN = "<!-- keys: begin (tools/configuration_keys.py) -->\n"
END = "<!-- keys: end -->\n"
_TITLES = {
    ("services",): "### `[services.<name>]`",
    ("services", ANY, "routes"): "### `routes` of a service",
    ("services", ANY, "breaker"): "### `breaker` of a service",
    ("services", ANY, "probe"): "### `probe` of a service",
    ("alerts", "webhooks"): "### `[alerts.webhooks.<name>]`",
    ("maintenance",): "### `[[maintenance]]`",
}


def tables() -> str:
    """A heading and a table of keys for each section of the configuration."""
    return "\n".join(_sections())


def with_tables(document: str) -> str:
    """`document` with the tables between its two markers as they are now."""
    before, rest = document.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{tables()}\n{END}{after}"


def _sections() -> Iterator[str]:
    keys = list(walk())
    for section in (key for key in keys if key.is_section):
        inside = [key for key in keys if _parent(key.path) == section.path]
        yield _TITLES.get(section.path, f"### `[{section.path[0]}]`")
        yield ""
        yield "| key | meaning, unit, default | environment |"
        yield "|---|---|---|"
        yield from map(_row, inside)
        yield ""


def _parent(path: tuple[str, ...]) -> tuple[str, ...]:
    above = path[:-1]
    return above[:-1] if above and above[-1] == ANY else above


def _row(key: Key) -> str:
    json = "" if key.kind is KeyKind.SCALAR else " (JSON)"
    place = key.path
    if "routes" in place[:-1]:
        name = "in `…_ROUTES`"
    elif place[0] != "services" and ANY in place:
        name = f"in `{variable_name(*place[: place.index(ANY)])}`"
    else:
        name = f"`{variable_name(*('<NAME>' if step == ANY else step for step in place))}`{json}"
    return f"| `{place[-1]}` | {key.description.replace('|', '/').replace('<64', '&lt;64')} | {name} |"


if __name__ == "__main__":
    DOCUMENT.write_text(with_tables(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
