"""The documents name everything that exists, and nothing that does not.

Each test reads one list from the code and one table from a document, and compares the two.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from tentaculo.cli.main import cli
from tentaculo.config.schema import Config
from tentaculo.model.failure import Failure
from tentaculo.model.native_paths import OWN_PATHS, OWN_TREES
from tentaculo.model.scopes import HEARTBEAT, PLAIN, PROXY
from tests.support.gateway_process import ROOT
from tests.support.native_routes import native_routes

PACKAGE = ROOT / "tentaculo"
LEVELS = ("debug", "info", "warning", "error", "exception", "critical")
PATH_IN_TABLE = r"(?m)^\| (?:`(GET|POST|PUT|PATCH|DELETE) |(WebSocket) `)(/[^` ]*)` \|"
"""Method, `WebSocket` in its place, and path of a row of that table."""
FAMILIES = {
    "CounterMetricFamily": "_total",
    "InfoMetricFamily": "_info",
    "GaugeMetricFamily": "",
    "HistogramMetricFamily": "",
}


def document(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def first_column(text: str) -> list[str]:
    """The code spans that stand in the first cells of the rows of every table."""
    return [span for cell in re.findall(r"(?m)^\| (.+?) \|", text) for span in re.findall(r"`([^`]+)`", cell)]


def calls(folder: Path) -> Iterator[tuple[Path, ast.Call]]:
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                yield path, node


def text_of(node: ast.expr) -> str | None:
    """A string, or an f-string with `<…>` in place of its values; None for any other expression."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "<…>" for part in node.values)
    return None


def anonymous(path: str) -> str:
    """A path with the same mark for each of its parameters, whatever their names."""
    return re.sub(r"\{[^}]*\}|<[^>]*>", "<…>", path)


def native_paths() -> set[str]:
    """`METHOD path` of each native route of a gateway with a service that sends heartbeats."""
    beating = {"url": "http://127.0.0.1:9", "probe": {"kind": "heartbeat"}}
    routes = native_routes(Config.of({"services": {"beating": beating}}))
    return {f"{route.method} {anonymous(route.path.replace('beating', '<service>'))}" for route in routes}


def paths_in_the_api() -> str:
    """The table of all paths."""
    return document("api.md").split("\n## All paths\n")[1].split("\n### ")[0]


def test_every_native_route_is_in_the_api() -> None:
    found = re.findall(PATH_IN_TABLE, paths_in_the_api())
    documented = {f"{method or 'GET'} {anonymous(path)}" for method, _, path in found}
    # The router of proxied requests serves a service's own health path.
    assert documented - {"GET /<…>/health"} == native_paths()
    assert len(documented) > 15


def test_a_new_native_route_takes_no_path_from_a_service() -> None:
    """`check` warns of a service's route that hides behind an own path, by the two lists of these."""
    of_services = {"/vx11/heartbeat/<…>", "/vx11/history/<…>"}
    yielded = {"/", "/api/events"}
    elsewhere = {route.partition(" ")[2] for route in native_paths()}
    elsewhere = {path for path in elsewhere if not path.startswith(OWN_TREES)} - of_services - yielded
    assert elsewhere - OWN_PATHS == set(), (
        "put a new path below /tentaculo/ or /status/: elsewhere it may hide a route of a user"
    )
    assert OWN_PATHS - elsewhere == set(), "a path that is gone"


def test_every_path_of_the_write_api_is_in_its_document() -> None:
    elsewhere = {"GET /tentaculo/admin/reload", "POST /tentaculo/admin/reload", "GET /tentaculo/admin/tokens"}
    found = re.findall(r"(?m)^\| `(GET|POST|PUT|PATCH|DELETE) (/tentaculo/admin/[^` ]*)`", document("admin-api.md"))
    documented = {f"{method} {anonymous(path)}" for method, path in found}
    assert documented == {route for route in native_paths() if " /tentaculo/admin/" in route} - elsewhere


def test_every_scope_is_documented() -> None:
    scopes = {*PLAIN, f"{PROXY}:SERVICE", f"{HEARTBEAT}:SERVICE"}
    table = document("tokens.md").split("\n| scope | ")[1].split("\n\n")[0]
    assert set(re.findall(r"(?m)^\| `([^`]+)`", table)) == scopes
    shown = CliRunner().invoke(cli, ["token", "new", "--help"]).output.split("Scopes are ")[1].split(".")[0]
    assert set(re.split(r",\s+|\s+and\s+", shown)) == scopes


def test_every_metric_is_documented() -> None:
    metrics = {
        name + FAMILIES[call.func.id]
        for _, call in calls(PACKAGE)
        if isinstance(call.func, ast.Name) and call.func.id in FAMILIES and (name := text_of(call.args[0])) is not None
    }
    documented = first_column(document("metrics.md"))
    assert {name for name in documented if name.startswith("tentaculo_")} == metrics
    assert len(metrics) > 10


def commands(command: click.Command, name: str) -> Iterator[str]:
    """The names of all commands that do something: a group only has commands below it."""
    below = {}
    if isinstance(command, click.Group):
        context = click.Context(command)
        below = {word: command.get_command(context, word) for word in command.list_commands(context)}
    if not below or (isinstance(command, click.Group) and command.invoke_without_command):
        yield name
    for word, one in below.items():
        assert one is not None
        yield from commands(one, f"{name} {word}")


def test_every_command_is_documented() -> None:
    expected = {name for name in commands(cli, "tentaculo") if name != "tentaculo"}
    spans = first_column(document("commands.md"))
    documented = {re.match(r"tentaculo(?: [a-z]+)+", span) for span in spans if span.startswith("tentaculo ")}
    assert {match[0] for match in documented if match} == expected


def log_events() -> set[tuple[str, str]]:
    """`(event, level)` of each call such as `log.info("event", …)`."""
    return {
        (event, call.func.attr.replace("exception", "error"))
        for _, call in calls(PACKAGE)
        if isinstance(call.func, ast.Attribute)
        and call.func.attr in LEVELS
        and isinstance(call.func.value, ast.Name)
        and call.func.value.id == "log"
        and call.args
        and (event := text_of(call.args[0])) is not None
    }


def test_every_log_event_is_documented() -> None:
    rows = re.findall(r"(?m)^\| `([^`]+)` \| (\w+) \|", document("log-events.md"))
    assert set(rows) == log_events()
    assert len(rows) == len(set(rows))
    assert [event for event, _ in rows] == sorted(event for event, _ in rows)


def test_no_log_event_is_made_at_run_time() -> None:
    made = [
        f"{file.relative_to(ROOT)}:{call.lineno}"
        for file, call in calls(PACKAGE)
        if isinstance(call.func, ast.Attribute)
        and call.func.attr in LEVELS
        and isinstance(call.func.value, ast.Name)
        and call.func.value.id == "log"
        and not (call.args and isinstance(call.args[0], ast.Constant))
    ]
    assert made == []


@pytest.mark.parametrize("failure", Failure, ids=lambda failure: failure.error)
def test_every_error_word_is_in_the_api(failure: Failure) -> None:
    errors = document("api.md").split("\n## Errors\n")[1].split("\n## ")[0]
    rows = [row for row in re.findall(r"(?m)^\| (\d{3}.*)", errors) if f"`{failure.error}`" in row]
    assert len(rows) == 1
    assert str(failure.status) in rows[0].split("|")[0]


def test_the_api_has_no_other_error_word() -> None:
    errors = document("api.md").split("\n## Errors\n")[1].split("\n## ")[0]
    rows = re.findall(r"(?m)^\| \d{3}[^|]*\|(.*)", errors)
    documented = {word for row in rows for word in re.findall(r"`(\w+)`", row)}
    assert documented == {failure.error for failure in Failure}


def test_the_readme_leads_to_every_document() -> None:
    linked = set(re.findall(r"\]\(docs/([\w.-]+\.md)\)", (ROOT / "README.md").read_text(encoding="utf-8")))
    assert {path.name for path in ROOT.glob("docs/*.md")} - linked == set()


@pytest.mark.parametrize(
    "path", [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/*.md"))], ids=lambda path: path.name
)
def test_every_link_leads_to_a_file_and_a_heading(path: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8"))
    for target, _, anchor in (link.partition("#") for link in links if "://" not in link):
        file = path.parent / target if target else path
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"(?m)^#+ (.*)$", file.read_text(encoding="utf-8"))
            assert anchor in {slug(heading) for heading in headings}, f"{target}#{anchor}"


def slug(heading: str) -> str:
    """The anchor that GitHub makes of a heading."""
    plain = heading.replace("&lt;", "<").replace("&gt;", ">").lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
