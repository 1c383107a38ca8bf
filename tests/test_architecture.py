"""The layout of the package: which part may import which, what each part may do, and where its tests are."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from tentaculo.cli.main import cli
from tests.support.gateway_process import ROOT, clean_environment
from tests.support.repeat import TESTED_IN

PACKAGE = ROOT / "tentaculo"
GROUND = {"model": set(), "config": {"model"}}
SHARED = {"net": {"model"}, "security": {"config", "model", "net"}, "telemetry": {"config", "model"}}
ROOMS = {
    "server": {"config", "model", "net", "security", "telemetry"},
    "upstream": {"config", "model", "net"},
    "proxy": {"upstream", "config", "model", "net", "security", "telemetry"},
    "health": {"upstream", "config", "model", "net"},
    "incidents": {"config", "model", "net"},
    "insight": {"model"},
    "store": {"config", "model"},
    "events": {"server", "config", "model", "security"},
    "web": {"server", "model"},
    "demo": {"security"},
}
BELOW_GATEWAY = set(GROUND) | set(SHARED) | set(ROOMS)
ENTRIES = {
    "gateway": BELOW_GATEWAY,
    "workers": BELOW_GATEWAY | {"gateway", "library_imports"},
    "cli": BELOW_GATEWAY | {"gateway", "workers"},
    "__main__": {"cli", "library_imports", "server"},
}
MAY_IMPORT: dict[str, set[str]] = {
    "client": set(),
    "library_imports": set(),
    "tasks": set(),
    **GROUND,
    **SHARED,
    **ROOMS,
    **ENTRIES,
}
"""Which other parts of `tentaculo` each part may import. Every part may import `tasks` too."""
SAME_STEM: dict[str, str] = {
    "__main__": "Python's own name for what `python -m` runs",
    "client": "of the gateway's events, and of the database's thread",
    "connection": "with a client, and with an endpoint",
    "coordination": "the interface that a gateway needs, and the workers' implementation of it",
    "early_warnings": "their run, their queries, and their endpoint",
    "errors": "each package has its own",
    "generation": "of the gateway, and the part of the proxy in it",
    "history": "the values, their collection, their queries and their endpoint",
    "incidents": "their configuration, their queries, and their endpoints",
    "openapi": "the document and its parts, and the operations of events",
    "precursors": "of incidents: their test, and their queries",
    "process": "of the gateway, and of the demonstration",
    "request_limits": "their configuration, and their judgement",
    "rotation": "its configuration, and its algorithm",
    "sessions": "their rules, and their queries",
    "services": "their configuration, and those of the demonstration",
    "sign_in": "its rules, and its page",
    "target_group": "what people see of it, and what the proxy does with it",
    "tickets": "their rules, and their queries",
    "timeline": "its values, its queries, and how it is drawn",
}
"""File stems that stand in two packages or more, with the reason."""
MIRRORED = {"server", "proxy", "upstream", "health", "incidents", "insight", "events", "store"}
MAX_LINES = 420
NAME = "Tentáculo Link"
STARTS_A_TASK = {"create_task", "ensure_future", "run_coroutine_threadsafe", "Task"}


@dataclass(frozen=True)
class Module:
    """One file of the package."""

    path: Path

    @property
    def name(self) -> str:
        """As it is imported."""
        parts = self.path.relative_to(ROOT).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @property
    def part(self) -> str:
        """The room or the module right under the package; empty for the package itself."""
        return (self.name + ".").split(".")[1]

    @property
    def tree(self) -> ast.Module:
        """Its code."""
        return parsed(self.path)

    def imports(self) -> Iterator[str]:
        """Full names of everything imported anywhere in it, within functions and for type checking included."""
        for node in ast.walk(self.tree):
            yield from imported_by(node)

    def parts_it_knows(self) -> set[str]:
        """Rooms and modules of the package that it imports."""
        names = [name.split(".") for name in self.imports()]
        return {name[1] for name in names if name[0] == "tentaculo" and name[1:] and name[1] in PARTS}


def imported_by(node: ast.AST) -> Iterator[str]:
    """Full names of what a statement imports."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"a relative import, which this test does not follow: {ast.unparse(node)}"
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), str(path))


MODULES = [Module(path) for path in sorted(PACKAGE.rglob("*.py"))]
PARTS = {module.part for module in MODULES} - {""}


def test_every_part_is_in_the_table() -> None:
    assert set(MAY_IMPORT) == PARTS


def test_every_module_is_in_a_package() -> None:
    loose = {module.name for module in MODULES if module.path.parent == PACKAGE}
    assert loose == {f"tentaculo{module}" for module in ("", ".__main__", ".client", ".library_imports", ".tasks")}


def test_a_stem_that_stands_twice_is_listed() -> None:
    packages: dict[str, list[str]] = {}
    for module in MODULES:
        if module.path.stem != "__init__":
            packages.setdefault(module.path.stem, []).append(module.name)
    twice = {stem for stem, names in packages.items() if len(names) > 1}
    assert {stem for stem in twice if stem not in SAME_STEM} == set(), "a new name, or a reason in SAME_STEM"
    assert {stem for stem in SAME_STEM if stem not in twice} == set(), "no longer there twice: remove from SAME_STEM"
    assert all(SAME_STEM.values())


def test_every_module_has_a_test_file_of_its_name() -> None:
    tests = ROOT / "tests"
    names = {
        path.relative_to(PACKAGE).with_suffix("").as_posix(): path.relative_to(PACKAGE).with_name(f"test_{path.name}")
        for path in (module.path for module in MODULES)
        if path.relative_to(PACKAGE).parts[0] in MIRRORED and path.stem != "__init__"
    }
    without = {name for name, mirror in names.items() if not (tests / mirror).is_file()}
    assert without - set(TESTED_IN) == set(), "write tests/X/test_Y.py for X/Y"
    assert set(TESTED_IN) - without == set(), "these are gone or have their own file now: remove from TESTED_IN"
    missing = {file for file in TESTED_IN.values() if not (tests / f"{file}.py").is_file()}
    assert missing == set(), "TESTED_IN names test files that are gone"


def test_the_walk_sees_imports_of_every_kind() -> None:
    known = {module.name: module.parts_it_knows() for module in MODULES}
    assert (
        set(ROOMS) - {"demo", "incidents", "insight"}
        <= known["tentaculo.gateway.gateway"] | known["tentaculo.gateway.health_service"]
    )
    assert {"config", "cli"} <= known["tentaculo.cli.main"], "imports within functions count"


@pytest.mark.parametrize("part", MAY_IMPORT)
def test_a_part_imports_what_its_rule_allows(part: str) -> None:
    allowed = MAY_IMPORT[part] | {part, "tasks"}
    known = {module.name: module.parts_it_knows() - allowed for module in MODULES if module.part == part}
    assert {name: parts for name, parts in known.items() if parts} == {}


def test_the_shared_values_do_no_input_or_output() -> None:
    pure = {
        "__future__",
        "base64",
        "collections",
        "contextlib",
        "dataclasses",
        "datetime",
        "enum",
        "functools",
        "hashlib",
        "hmac",
        "typing",
        "msgspec",
        "math",
        "re",
        "urllib.parse",
    }
    for module in MODULES:
        if module.part == "model" or module.name in {"tentaculo.security.cors", "tentaculo.security.tokens"}:
            names = {name for name in module.imports() if not name.startswith("tentaculo.")}
            assert {name for name in names if not {name.split(".")[0], name.rpartition(".")[0]} & pure} == set()


def test_only_the_configuration_reads_the_environment() -> None:
    environment = {"environ", "environb", "getenv", "getenvb", "putenv", "unsetenv"}
    readers = set()
    for module in MODULES:
        names = {node.attr for node in ast.walk(module.tree) if isinstance(node, ast.Attribute)}
        names |= {name.rpartition(".")[2] for name in module.imports() if name.startswith("os.")}
        if names & environment:
            readers.add(module.part)
    # It sets variables for the libraries while they are imported.
    assert readers - {"library_imports"} == {"config"}


def test_tasks_are_started_in_one_place() -> None:
    starters = set()
    for module in MODULES:
        called = {ast.unparse(node.func) for node in ast.walk(module.tree) if isinstance(node, ast.Call)}
        last = {name.rpartition(".")[2] for name in called}
        if last & STARTS_A_TASK or "asyncio.TaskGroup" in called | set(module.imports()):
            starters.add(module.name)
    assert starters == {"tentaculo.tasks"}


def test_migrations_are_reached_by_the_db_command_only() -> None:
    alembic = {module.name for module in MODULES for name in module.imports() if name.split(".")[0] == "alembic"}
    migrate = {m.name for m in MODULES for name in m.imports() if name.startswith("tentaculo.store.migrate")}
    assert (alembic, migrate) == ({"tentaculo.store.migrate"}, {"tentaculo.cli.main"})


def test_a_file_is_short_enough_to_be_read() -> None:
    too_long = {module.name for module in MODULES if len(module.path.read_text("utf-8").splitlines()) > MAX_LINES}
    assert too_long == set()


def test_the_body_of_a_module_only_defines() -> None:
    calls = [
        f"{module.name}: {ast.unparse(node)}"
        for module in MODULES
        for node in module.tree.body
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    ]
    assert calls == []


def run_python(code: str, *arguments: str, limit: float = 50) -> str:
    """What `code` prints in a new interpreter whose folder is not the project, within `limit` seconds."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        cwd="/",
        env=clean_environment({"PYTHONPATH": str(ROOT)}),
        capture_output=True,
        text=True,
        timeout=limit,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def runs_at_import(nodes: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """The code that an import of the module runs: neither that of functions nor what is for type checking only."""
    for node in nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            yield from runs_at_import(node.orelse)
            continue
        yield node
        yield from runs_at_import(ast.iter_child_nodes(node))


def test_every_module_imports_alone() -> None:
    """No import leads back to its module, so each finds what it imports complete, whichever is imported first."""
    names = {module.name for module in MODULES}
    needs: dict[str, set[str]] = {}
    for module in MODULES:
        found = {name for node in runs_at_import(module.tree.body) for name in imported_by(node)}
        # Of `package.module.name`, the module; and each package is imported before what is in it.
        found |= {name.rpartition(".")[0] for name in found | {module.name}}
        needs[module.name] = (found & names) - {module.name}
    assert needs["tentaculo.gateway.process"] > {"tentaculo.gateway", "tentaculo.gateway.gateway"}
    order = [*TopologicalSorter(needs).static_order()]
    run_python("import importlib, sys; [importlib.import_module(name) for name in sys.argv[1:]]", *reversed(order))


def test_the_server_never_loads_alembic() -> None:
    loaded = run_python(
        "import sys, tentaculo.gateway.process, tentaculo.cli.serve; print(*sorted(sys.modules))"
    ).split()
    assert "tentaculo.proxy.handler" in loaded
    packages = {name.split(".")[0] for name in loaded}
    assert {"alembic", "mako", "pytest"} & packages == set()
    # Loaded when they are needed: for pages, scrapes, maintenance windows and faults of the configuration.
    assert {"jinja2", "markupsafe", "prometheus_client", "zoneinfo", "difflib"} & packages == set()
    # The descriptions of the API are made at the first request.
    descriptions = {"tentaculo.events.openapi", "tentaculo.events.json_schemas", "tentaculo.events.asyncapi"}
    descriptions |= {"tentaculo.web.admin_openapi", "tentaculo.web.published_openapi"}
    assert descriptions & set(loaded) == set()
    # The synchronous SQLAlchemy in one thread is the lighter one: no greenlet, no asyncio extension.
    assert {"tentaculo.store.migrate", "sqlalchemy.ext.asyncio"} & set(loaded) == set()


def test_the_commands_that_need_no_server_do_not_load_it() -> None:
    code = "import sys, tentaculo.cli.main; print(*sorted(sys.modules))"
    loaded = {name.split(".")[0] for name in run_python(code).split()}
    assert loaded & {"aiohttp", "sqlalchemy", "uvloop", "alembic"} == set()


def test_importing_opens_nothing_and_starts_nothing(tmp_path: Path) -> None:
    code = f"""
import os, sys, threading
os.chdir({str(tmp_path)!r})
import aiohttp.web, sqlalchemy, uvloop
before = set(os.listdir("/proc/self/fd"))
import tentaculo.gateway.gateway, tentaculo.cli.serve, tentaculo.cli.truth.command, tentaculo.cli.main
print(threading.active_count(), len(set(os.listdir("/proc/self/fd")) - before), os.listdir())
"""
    assert run_python(code).split() == ["1", "0", "[]"]


def test_no_package_of_ours_hides_a_library() -> None:
    # A folder `alembic` with an __init__.py would be imported in the library's place.
    assert not (ROOT / "alembic" / "__init__.py").exists()


@pytest.mark.parametrize("command", [[], *([name] for name in cli.list_commands(click.Context(cli)))], ids=" ".join)
def test_help_writes_the_name_as_it_is(command: list[str]) -> None:
    shown = CliRunner().invoke(cli, [*command, "--help"])
    assert shown.exit_code == 0
    assert misspelt(shown.output) == []
    if not command:
        assert NAME in shown.output


TEXTS = sorted(
    path
    for pattern in ("templates/*.html", "docs/*.md", "README.md", "CHANGELOG.md", "*.toml", "tentaculo/config/*.toml")
    for path in ROOT.glob(pattern)
)


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_people_read_the_name_as_it_is_written(path: Path) -> None:
    assert misspelt(path.read_text("utf-8")) == []


def test_the_page_and_the_readme_say_whose_they_are() -> None:
    pages = [path for path in TEXTS if path.name in ("status.html", "README.md")]
    assert len(pages) == 2
    for path in pages:
        assert NAME in path.read_text("utf-8") or "extends" in path.read_text("utf-8")


def misspelt(text: str) -> list[str]:
    """The product's name without its accent or in other capitals. Names of programs and modules are lower case."""
    return re.findall(r"Tentaculo[ -]?Link|tentáculo link|Tentáculo link|Tentáculo-Link|TentáculoLink", text)
