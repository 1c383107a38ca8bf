"""How loosely a path may be read."""

from __future__ import annotations

import sys
from contextlib import suppress
from types import FrameType
from typing import Any

import pytest

from tentaculo.model.failure import Problem
from tentaculo.net.http1 import check_path
from tentaculo.server.loose_paths import loosest, read_loosely


@pytest.mark.parametrize(
    "path",
    [
        *("/admin", "/%61dmin", "//admin", "/./admin", "/ADMIN", "/admin;x=1", "/%2561dmin", "\\admin", "/admin/"),
        # As IIS, Windows, lenient decoders of UTF-8, and expressions with `$` read them.
        *(
            "/%u0061dmin",
            "/admin.",
            "/admin%20",
            "/admin. ./",
            "/admin%0a",
            "/admin%09;x",
            "/%c1%a1dmin",
            "/admin%c0%af",
        ),
        *("/%e0%81%a1dmin", "/%f0%80%81%a1dmin", "/%ef%bd%81dmin", "/\uff41dmin", "/%ef%bc%8fadmin", "/.%2fadmin"),
    ],
)
def test_how_loosely_a_path_may_be_read(path: str) -> None:
    assert loosest(path) == "/admin"


def test_a_slash_at_the_end_is_kept_but_for_the_loosest() -> None:
    assert (read_loosely("/a/"), loosest("/a/"), loosest("/")) == ("/a/", "/a", "/")


@pytest.mark.parametrize("path", ["/x/.. /admin", "/x/..%20/admin", "/x/..././admin", "/x/%2e%2e./admin"])
def test_what_windows_takes_for_the_parent_is_seen(path: str) -> None:
    assert loosest(path) == "/x/../admin"


@pytest.mark.parametrize(
    "path", ["/a.b", "/.admin", "/admin.txt/x", "/a b", "/caf\u00e9", "/\udcff", "/100%", "/%zz", "/.a"]
)
def test_what_every_server_reads_as_it_stands(path: str) -> None:
    assert loosest(path) == path.replace("\udcff", "\ufffd")


@pytest.mark.parametrize(
    "unit", ["%", "%u", "%25", "%2e", "/%2e", "/.", ".", " .", "%c0%ae", ";", "/a;", "%2525", "\u00e9", "\u0300\u0327"]
)
def test_the_steps_of_a_look_are_fewer_than_the_bytes(unit: str) -> None:
    path = "/" + unit * (28_000 // len(unit))
    steps = 0

    def count(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal steps
        steps += 1
        return count

    sys.settrace(count)
    try:
        loosest(path)
        with suppress(Problem):
            check_path(path)
    finally:
        sys.settrace(None)
    assert steps < len(path)
