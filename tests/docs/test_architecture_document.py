"""docs/architecture.md describes the code as it is."""

from __future__ import annotations

import re

import pytest

from tests.support.gateway_process import ROOT
from tests.test_architecture import BELOW_GATEWAY, MAY_IMPORT
from tests.tools.test_trace_files import CEILINGS

TEXT = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
PACKAGES = TEXT.split("\n## Packages\n")[1].split("\n## ")[0]
PATHS = sorted(set(re.findall(r"`((?:[a-z_0-9.]+/)+[a-z_0-9.]*)`", TEXT)))
DRAWN = sorted(
    {path for box in re.findall(r"(?s)```\n(.*?)```", TEXT) for path in re.findall(r"\b[a-z]+/[a-z_]+\b", box)}
)
TOP = ("tentaculo/", "tests/", "docs/", "tools/", "alembic/")


@pytest.mark.parametrize("path", PATHS)
def test_every_path_exists(path: str) -> None:
    assert (ROOT / (path if path.startswith(TOP) else f"tentaculo/{path}")).exists()


@pytest.mark.parametrize("path", [path for path in DRAWN if path.split("/")[0] in MAY_IMPORT])
def test_every_module_in_a_drawing_exists(path: str) -> None:
    assert (ROOT / "tentaculo" / f"{path}.py").exists()


def test_the_table_of_packages_is_the_one_that_is_enforced() -> None:
    rows = re.findall(r"(?m)^\| `(\w+)` \| [^|]+ \| ([^|]+) \|$", PACKAGES)
    documented = {name: set() if names == "nothing" else set(names.split(", ")) for name, names in rows}
    words = {"workers": "gateway and what it may import, and library_imports", "cli": "all"}
    assert {name: documented.pop(name) for name in words} == {
        name: set(text.split(", ")) for name, text in words.items()
    }
    assert documented == {name: may for name, may in MAY_IMPORT.items() if name not in {*words, "__main__"}}
    assert MAY_IMPORT["workers"] == BELOW_GATEWAY | {"gateway", "library_imports"}


def test_every_traced_path_is_in_the_table() -> None:
    rows = re.findall(r"(?m)^\| ([a-zA-Z ]+(?:, [a-z ]+)?) \| (\d+) \| \d+ \| \d+ \|$", TEXT)
    documented = {name: int(files) for name, files in rows}
    assert len(documented) == len(CEILINGS)
    for name, ceiling in CEILINGS.items():
        assert documented[next(row for row in documented if row.startswith(name))] <= ceiling
