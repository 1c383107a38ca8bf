"""File, changes, environment and overrides as one configuration, and where each value is from."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tentaculo.config.change_layer import DEFAULT_CHANGES_FILE, ChangeLayer, TimedOverride, write_layer
from tentaculo.config.errors import ConfigError
from tentaculo.config.layers import Layered
from tentaculo.config.loader import Loaded, load, load_usable

FILE = """
[services.madre]
url = "http://127.0.0.1:8001"
about = "file"
[services.shub]
url = "http://127.0.0.1:8002"
enabled = false
enabled_env = "SHUB_ON"
"""
NOW = datetime.now(UTC)


class Folder:
    """A folder with a configuration file and perhaps changes."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "tentaculo.toml"
        self.changes = folder / DEFAULT_CHANGES_FILE
        self.file.write_text(FILE)

    def load(self, environ: Mapping[str, str] | None = None) -> Loaded:
        return load(self.file, environ or {})

    def layered(self, environ: Mapping[str, str] | None = None) -> Layered:
        return self.load(environ).sources.layered(environ or {})

    def change(self, changes: dict[str, Any] | None = None, **overrides: TimedOverride) -> None:
        write_layer(self.changes, ChangeLayer(3, NOW, "ana", changes or {}, overrides))


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def lasting(*, enabled: bool, reason: str = "") -> TimedOverride:
    return TimedOverride(enabled, NOW, NOW + timedelta(hours=1), "ana", reason)


def test_changes_are_over_the_file_and_below_the_environment(folder: Folder) -> None:
    folder.change({"services": {"madre": {"about": "change"}, "new": {"url": "http://127.0.0.1:9"}, "shub": None}})
    services = folder.load().config.services
    assert {name: one.about for name, one in services.items()} == {"madre": "change", "new": None}
    environ = {"TENTACULO_SERVICES_MADRE_ABOUT": "environment", "TENTACULO_SERVICES_NEW_ABOUT": "its own variable"}
    services = folder.load(environ).config.services
    assert (services["madre"].about, services["new"].about) == ("environment", "its own variable")


def test_without_changes_nothing_is_made(folder: Folder) -> None:
    assert folder.load().sources.layer == ChangeLayer()
    assert not folder.changes.parent.exists()


def test_an_override_is_above_the_environment_too(folder: Folder) -> None:
    folder.change(shub=lasting(enabled=True), madre=lasting(enabled=False, reason="repair"))
    environ = {"SHUB_ON": "no", "TENTACULO_SERVICES_MADRE_ENABLED": "true"}
    services = folder.load(environ).config.services
    assert services["shub"].enabled
    assert (services["madre"].enabled, services["madre"].off_reason) == (False, "repair")
    override = services["madre"].override
    assert override is not None
    assert override.until == NOW + timedelta(hours=1)


def test_an_override_that_is_over_or_of_no_service_has_no_effect(folder: Folder) -> None:
    over = TimedOverride(False, NOW - timedelta(hours=2), NOW - timedelta(hours=1))
    folder.change(madre=over, nobody=lasting(enabled=False))
    services = folder.load().config.services
    assert (services["madre"].enabled, services["madre"].override) == (True, None)


def test_the_file_of_changes_can_be_elsewhere(folder: Folder, tmp_path: Path) -> None:
    folder.file.write_text(FILE + "[admin]\nchanges_file = 'state/a.json'\n")
    write_layer(tmp_path / "state" / "a.json", ChangeLayer(1, changes={"services": {"madre": None}}))
    assert set(folder.load().config.services) == {"shub"}
    write_layer(tmp_path / "b.json", ChangeLayer(1, changes={"services": {"shub": None}}))
    assert set(folder.load({"TENTACULO_ADMIN_CHANGES_FILE": str(tmp_path / "b.json")}).config.services) == {"madre"}


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"services": {"new": {"url": "ftp://h"}}}, "services.new.url: must be an http:// or https:// address with a host (set by a change)"),
        ({"services": {"madre": {"depends_on": ["gone"]}}}, "services.madre.depends_on[0]: is not the name of a service (set by a change)"),
        ({"services": {"madre": {"abuot": "x"}}}, 'services.madre.abuot: unknown key; did you mean "about"? (set by a change)'),
    ],
)  # fmt: skip
def test_a_faulty_change_is_no_reason_not_to_start(folder: Folder, changes: dict[str, Any], fault: str) -> None:
    folder.change({**changes, "maintenance": [{"services": ["*"], "at": "02:00-03:00"}]})
    with pytest.raises(ConfigError) as caught:
        folder.load()
    assert [str(one) for one in caught.value.faults] == [fault]
    loaded = load_usable(folder.file, {})
    # All of the changes are left out, not only the faulty one.
    assert (set(loaded.config.services), loaded.config.maintenance) == ({"madre", "shub"}, ())
    assert [str(one) for one in loaded.sources.refused] == [fault]
    warning = f"the changes in {folder.changes} are not applied, since the configuration has a fault with them: {fault}"
    assert loaded.warnings[0] == warning


def test_nor_is_a_file_of_changes_that_cannot_be_read(folder: Folder) -> None:
    folder.changes.parent.mkdir()
    folder.changes.write_text("{")
    loaded = load_usable(folder.file, {})
    assert set(loaded.config.services) == {"madre", "shub"}
    assert [one.path for one in loaded.sources.refused] == [str(folder.changes)]


def test_the_faults_of_both_files_are_named_at_once(folder: Folder) -> None:
    folder.changes.parent.mkdir()
    folder.changes.write_text("{")
    folder.file.write_text("[server]\nport = -1\n")
    with pytest.raises(ConfigError) as caught:
        folder.load()
    assert [one.path for one in caught.value.faults] == [str(folder.changes), "server.port"]


def test_a_fault_of_the_file_stays_one(folder: Folder) -> None:
    folder.change({"services": {"new": {"url": "http://h"}}})
    folder.file.write_text("[server]\nport = -1\n")
    with pytest.raises(ConfigError, match=r"server\.port"):
        load_usable(folder.file, {})


def test_a_change_of_what_the_file_no_longer_has_is_a_warning(folder: Folder) -> None:
    folder.change({"services": {"madre": {"about": "change"}}})
    folder.file.write_text("[services.other]\nurl = 'http://h'\n")
    loaded = folder.load()
    assert set(loaded.config.services) == {"other"}
    assert "the change of services.madre has no effect: the configuration file no longer has it" in loaded.warnings


def test_each_value_has_a_source(folder: Folder) -> None:
    folder.change({"services": {"madre": {"owner": "ana"}}}, shub=lasting(enabled=True))
    layered = folder.layered({"TENTACULO_SERVICES_MADRE_ABOUT": "x", "SHUB_ON": "no"})
    assert str(layered.source(("services", "madre", "url"))) == "file"
    assert str(layered.source(("services", "madre", "owner"))) == "change"
    assert str(layered.source(("services", "madre", "about"))) == "TENTACULO_SERVICES_MADRE_ABOUT"
    assert str(layered.source(("services", "madre", "group"))) == "default"
    assert str(layered.source(("services", "shub", "enabled"))).startswith("override until ")
    folder.change()
    both = {"SHUB_ON": "no", "TENTACULO_SERVICES_SHUB_ENABLED": "yes"}
    assert str(folder.layered(both).source(("services", "shub", "enabled"))) == "TENTACULO_SERVICES_SHUB_ENABLED"
    assert str(folder.layered({"SHUB_ON": "no"}).source(("services", "shub", "enabled"))) == "SHUB_ON"


@pytest.mark.parametrize(
    ("patch", "environ", "expected"),
    [
        ({"about": "new"}, {}, []),
        ({"about": "new"}, {"TENTACULO_SERVICES_MADRE_ABOUT": "x"}, ["TENTACULO_SERVICES_MADRE_ABOUT"]),
        ({"about": "new"}, {"TENTACULO_SERVICES_MADRE_OWNER": "x"}, []),
        ({"about": None}, {"TENTACULO_SERVICES_MADRE_ABOUT": "x"}, ["TENTACULO_SERVICES_MADRE_ABOUT"]),
        ({"about": "new"}, {"TENTACULO_SERVICES_MADRE": '{"url": "http://h"}'}, ["TENTACULO_SERVICES_MADRE"]),
        ({"about": "new"}, {"TENTACULO_SERVICES": '{"madre": {"url": "http://h"}}'}, ["TENTACULO_SERVICES"]),
        ({"url": None, "urls": ["http://h"]}, {"TENTACULO_SERVICES_MADRE_URL": "http://e"}, ["TENTACULO_SERVICES_MADRE_URL"] * 2),
        ({"breaker": {"failures": 9}}, {"TENTACULO_SERVICES_MADRE_BREAKER_FAILURES": "2"}, ["TENTACULO_SERVICES_MADRE_BREAKER_FAILURES"]),
    ],
)  # fmt: skip
def test_what_the_environment_overrides(
    folder: Folder, patch: dict[str, Any], environ: dict[str, str], expected: list[str]
) -> None:
    folder.change({"services": {"madre": patch}})
    layered = load_usable(folder.file, {}).sources.layered(environ)
    assert [variable for _, variable in layered.overridden({"services": {"madre": patch}})] == expected
