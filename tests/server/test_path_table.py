"""What each path leads to, and how loosely a path may be read."""

from __future__ import annotations

import pytest

from tentaculo.server.path_table import PathTable, fill, loosest, read_loosely


def test_whole_paths_come_before_changing_ones_and_these_before_prefixes() -> None:
    table = PathTable[str]()
    table.add("/", "root", is_exact=False)
    table.add("/a/", "prefix", is_exact=False)
    table.add("/a/{name}", "changing", is_exact=True)
    table.add("/a/b", "whole", is_exact=True)
    table.add("/a/b", "later", is_exact=True)
    found = {path: table.find(path) for path in ("/a/b", "/a/c", "/a/c/d", "/a", "/ab", "/")}
    assert found == {
        "/a/b": "whole",
        "/a/c": "changing",
        "/a/c/d": "prefix",
        "/a": "prefix",
        "/ab": "root",
        "/": "root",
    }


def test_nothing_leads_nowhere() -> None:
    table = PathTable[str]()
    table.add("/a", "prefix", is_exact=False)
    assert table.find("/b") is None
    assert table.find("*") is None


def test_segments_are_filled_in() -> None:
    assert fill("/v2/{id}/{x}", "/v1/{id}", "/v1/7") == "/v2/7/{x}"


@pytest.mark.parametrize(
    "path", ["/admin", "/%61dmin", "//admin", "/./admin", "/ADMIN", "/admin;x=1", "/%2561dmin", "\\admin", "/admin/"]
)
def test_how_loosely_a_path_may_be_read(path: str) -> None:
    assert loosest(path) == "/admin"


def test_a_slash_at_the_end_is_kept_but_for_the_loosest() -> None:
    assert (read_loosely("/a/"), loosest("/a/"), loosest("/")) == ("/a/", "/a", "/")
