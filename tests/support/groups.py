"""Groups of slow tests: each has a marker. `--fast` leaves all of them out, `--slow` runs nothing else.

A folder or a file joins a group here. One test joins by its own decorator, such as `@pytest.mark.thorough`, or because
it needs PostgreSQL or gateways in processes of their own, or is the second run of one that runs twice.
"""

from __future__ import annotations

import pytest

ROOT = "tests/"
GROUPS = {
    "migration": ("database migrations from every state, up and down", ("migrations/",)),
    "command": (
        "the command line, worker processes, and gateways beside each other",
        (
            *("cli/test_event_commands.py", "cli/test_history.py", "cli/test_incident_commands.py", "cli/test_main.py"),
            *("cli/test_serve.py", "cli/test_status_commands.py", "cli/truth/test_command.py"),
            *("workers/", "demo/test_process.py", "demo/test_uploads.py"),
            *(
                "events/test_database_away.py",
                "events/test_deployments.py",
                "events/test_two_gateways.py",
                "gateway/test_admin_routes.py",
                "gateway/test_handover.py",
                "gateway/test_lease.py",
                "gateway/test_reload_route.py",
                "gateway/test_shortage.py",
                "gateway/test_stop.py",
                "kills/test_rounds.py",
                "server/test_signals.py",
            ),
        ),
    ),
    "browser": ("pages in Chromium", ("browser/",)),
    "peer": ("other servers, clients and proxies", ("thirdparty/", "seed/", "bench/")),
    "desync": (
        "hundreds of ambiguous messages, to find request smuggling",
        ("wire/test_desync.py", "wire/test_poisoning.py"),
    ),
    "package": ("the container image, the wheel and the installation", ("docker/", "packaging/")),
    "load": (
        "clients and services that flood, stall, do not read, or leave",
        (
            *("wire/test_garbage.py", "wire/test_memory.py", "wire/test_resources.py", "wire/test_stalls.py"),
            "wire/test_turns.py",
        ),
    ),
    "simulation": (
        "simulated services under load, and random sequences of changes, which take seconds of the processor",
        ("gateway/test_configuration_model.py", "upstream/test_hedged_balancing.py"),
    ),
    "thorough": (
        "random inputs, every member of a large set, and races that take a second to show",
        ("health/test_board_model.py", "gateway/test_section_model.py"),
    ),
    "task": ("the tests that run twice, with each request served in a task", ()),
    "database": ("what the fast tests show of SQLite, on PostgreSQL", ()),
    "soak": (
        "memory that is not freed, requests that slow down others, and files that a path visits",
        ("wire/test_isolation.py", "wire/test_leaks.py", "wire/test_soak.py"),
    ),
    "conformance": ("suites of others for HTTP and WebSocket", ("conformance/",)),
}
"""Marker → what the group tests, and its files below tests/.

They run in this order behind the fast tests: files that take a minute come early, so that no process has one left when the
others have ended.
"""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--fast` and `--slow`."""
    parser.addoption("--fast", action="store_true", help="leave out the slow groups, and list them at the end")
    parser.addoption("--slow", action="store_true", help="run the slow groups only")


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers."""
    for name, (what, _) in GROUPS.items():
        config.addinivalue_line("markers", f"{name}: {what} (slow)")


def group_of(item: pytest.Item) -> str | None:
    """The slow group of a test; None for a fast one."""
    file = item.nodeid.partition("::")[0].removeprefix(ROOT)
    marked = (marker.name for marker in item.iter_markers() if marker.name in GROUPS)
    by_file = (name for name, (_, places) in GROUPS.items() if file.startswith(places))
    return next(marked, None) or next(by_file, None) or _group_by_fixtures(item)


def _group_by_fixtures(item: pytest.Item) -> str | None:
    if not isinstance(item, pytest.Function):
        return None
    if "deployment" in item.fixturenames:
        return "command"
    params = item.callspec.params if hasattr(item, "callspec") else {}
    if params.get("both_ways") is False:
        return "task"
    values = params.values()
    is_on_postgresql = "postgresql" in item.fixturenames or any(value == "postgresql" for value in values)
    return "database" if is_on_postgresql else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark each test with its group, sort the fast ones to the front, and select what `--fast` or `--slow` asks for."""
    ranks: dict[str | None, int] = {name: rank for rank, name in enumerate((None, *GROUPS))}
    groups = {item: group_of(item) for item in items}
    for item, group in groups.items():
        if group is not None:
            item.add_marker(group)
    selected = [
        item
        for item, group in groups.items()
        if not (config.getoption("fast") and group) and not (config.getoption("slow") and not group)
    ]
    if len(selected) < len(items):
        kept = set(selected)
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = sorted(selected, key=lambda item: ranks[groups[item]])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """List what `--fast` leaves out."""
    if not config.getoption("fast"):
        return
    terminalreporter.section("left out by --fast")
    for name, (what, _) in GROUPS.items():
        terminalreporter.line(f"{name:<12} {what}")
    terminalreporter.line("One group: make test ARGS='-m browser'. All groups: make test, and make conformance.")
