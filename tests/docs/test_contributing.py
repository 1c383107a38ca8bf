"""CONTRIBUTING.md names tests that exist, and sends nobody to a file without any."""

from __future__ import annotations

import re

import pytest

from tests.support.gateway_process import ROOT

TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
ROWS = re.findall(r"(?m)^\| ([^|]+) \| (`tests/[^|]+`) \|$", TEXT)
NAMED = sorted({path for _, paths in ROWS for path in re.findall(r"`([^`]+)`", paths)})


def test_the_table_is_found() -> None:
    kinds = [kind for kind, _ in ROWS]
    assert len(kinds) > 20
    assert len(set(kinds)) == len(kinds)
    assert len(ROWS) == TEXT.count("| `tests/")


@pytest.mark.parametrize("path", NAMED)
def test_what_it_names_has_tests(path: str) -> None:
    place = ROOT / path
    files = place.rglob("test_*.py") if path.endswith("/") else [place]
    tests = sum(len(re.findall(r"(?m)^(?:async )?def test_\w+", file.read_text(encoding="utf-8"))) for file in files)
    assert tests > 0
