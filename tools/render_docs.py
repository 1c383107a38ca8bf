"""Write every file that is made of the declarations of the configuration keys: `make docs`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tentaculo.config import example, json_schema
from tentaculo.config.environment import variable_name
from tentaculo.config.key_reference import ANY, Key, KeyKind, walk

ROOT = Path(__file__).resolve().parents[1]
CONFIGURATION = ROOT / "docs" / "configuration.md"
LIMITS = ROOT / "docs" / "limits.md"
_BEGIN = "<!-- keys: begin (make docs) -->\n"
_END = "<!-- keys: end -->\n"
_TITLES = {
    ("services",): "### `[services.<name>]`",
    ("services", ANY, "routes"): "### `routes` of a service",
    ("services", ANY, "breaker"): "### `breaker` of a service",
    ("services", ANY, "probe"): "### `probe` of a service",
    ("alerts", "webhooks"): "### `[alerts.webhooks.<name>]`",
    ("maintenance",): "### `[[maintenance]]`",
}


def rendered() -> dict[Path, str]:
    """Every rendered file with the text it should have now."""
    return {
        ROOT / "tentaculo.example.toml": example.text(f"docs/{example.SCHEMA_FILE}"),
        ROOT / "docs" / example.SCHEMA_FILE: json_schema.text(),
        CONFIGURATION: _with_tables(CONFIGURATION, _key_tables()),
        LIMITS: _with_tables(LIMITS, _limit_table()),
    }


def _with_tables(document: Path, lines: Iterator[str]) -> str:
    """The text of `document` with `lines` between its two markers."""
    before, rest = document.read_text(encoding="utf-8").split(_BEGIN)
    _, after = rest.split(_END)
    tables = "\n".join(lines)
    return f"{before}{_BEGIN}\n{tables}\n{_END}{after}"


def _key_tables() -> Iterator[str]:
    """A heading and a table of keys for each table of the configuration."""
    keys = list(walk())
    for section in (key for key in keys if key.is_section):
        inside = [key for key in keys if _parent(key.path) == section.path]
        yield _TITLES.get(section.path, f"### `[{section.path[0]}]`")
        yield ""
        yield section.description
        yield ""
        yield "| key | meaning, unit, default | environment |"
        yield "|---|---|---|"
        yield from map(_key_row, inside)
        yield ""


def _parent(path: tuple[str, ...]) -> tuple[str, ...]:
    above = path[:-1]
    return above[:-1] if above and above[-1] == ANY else above


def _key_row(key: Key) -> str:
    json = "" if key.kind is KeyKind.SCALAR else " (JSON)"
    path = key.path
    if "routes" in path[:-1]:
        name = "in `…_ROUTES`"
    elif path[0] != "services" and ANY in path:
        name = f"in `{variable_name(*path[: path.index(ANY)])}`"
    else:
        name = f"`{variable_name(*('<NAME>' if step == ANY else step for step in path))}`{json}"
    return f"| `{path[-1]}` | {key.description.replace('|', '/')} | {name} |"


def _limit_table() -> Iterator[str]:
    yield "| key | default | unit | what happens beyond the limit |"
    yield "|---|---|---|---|"
    # The table of the limits comes before the limits of [server].
    for key in sorted(walk(), key=lambda key: key.path[0] != "limits"):
        if key.doc.beyond:
            zero = f" ({key.doc.zero})" if key.doc.zero and key.declared.default == 0 else ""
            yield f"| `{'.'.join(key.path)}` | {key.default}{zero} | {key.doc.unit} | {key.doc.beyond} |"
    yield ""


if __name__ == "__main__":
    for path, text in rendered().items():
        path.write_text(text, encoding="utf-8")
