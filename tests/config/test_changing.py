"""One change to the layer of changes: what it sets, and why it is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tentaculo.config.change_layer import ChangeLayer, tidied
from tentaculo.config.changing import SetByEnvironmentError, released, replaced, switched, undone
from tentaculo.config.effective import effective_values
from tentaculo.config.errors import ConfigError, KeyPath
from tentaculo.config.layers import Sources
from tentaculo.config.loader import load_sources
from tentaculo.config.masking import MASK, masked
from tentaculo.config.merge_patch import MISSING, with_value

FILE = """
[services.madre]
url = "http://127.0.0.1:8001"
token = "secret"
breaker = { failures = 3 }
[[services.madre.routes]]
prefix = "/madre"
set_headers = { Authorization = "Basic x" }
[services.shub]
url = "http://127.0.0.1:8002"
enabled = false
enabled_env = "SHUB_ON"
[alerts.webhooks.ops]
url = "https://example.org/hook"
secrets = ["whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"]
"""
NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
MADRE: KeyPath = ("services", "madre")
HOUR = timedelta(hours=1)


class Editor:
    """Makes changes one after another."""

    def __init__(self) -> None:
        self.environ: Mapping[str, str] = {}
        self.sources = Sources(Path("/nowhere"), text=FILE)

    @property
    def layer(self) -> ChangeLayer:
        return self.sources.layer

    @property
    def tables(self) -> dict[str, Any]:
        return self.sources.layered(self.environ, NOW).changed

    def keep(self, layer: ChangeLayer) -> ChangeLayer:
        self.sources = replace(self.sources, layer=layer)
        load_sources(self.sources, self.environ, now=NOW)
        return layer

    def put(self, place: KeyPath, value: Any) -> ChangeLayer:
        return self.keep(replaced(self.sources, place, value, self.environ, at=NOW, by="ana"))

    def switch(self, name: str, *, enabled: bool, **how: Any) -> ChangeLayer:
        return self.keep(switched(self.sources, name, self.environ, enabled=enabled, at=NOW, by="ana", **how))


@pytest.fixture
def editor() -> Editor:
    return Editor()


def faults_of(change: Callable[[], object]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        change()
    return [str(fault) for fault in caught.value.faults]


def test_only_the_difference_to_the_file_is_kept(editor: Editor) -> None:
    madre = {**editor.tables["services"]["madre"], "about": "x", "breaker": {"failures": 5}}
    layer = editor.put(MADRE, madre)
    assert layer.changes == {"services": {"madre": {"about": "x", "breaker": {"failures": 5}}}}
    assert (layer.revision, layer.changed_by, layer.changed_at) == (1, "ana", NOW)
    # What is put back as the file has it is no change any more.
    del madre["about"]
    madre["breaker"] = {"failures": 3}
    assert editor.put(MADRE, madre).changes == {}
    assert editor.layer.revision == 2


def test_a_changed_address_of_what_leaves_the_file_is_no_service_of_its_own(editor: Editor) -> None:
    editor.put(MADRE, {**editor.tables["services"]["madre"], "url": "http://127.0.0.1:9001"})
    editor.switch("shub", enabled=True)
    new: KeyPath = ("services", "new")
    editor.put(new, {"url": "http://127.0.0.1:9002"})
    without = FILE[FILE.index("[alerts") :]
    editor.sources = replace(editor.sources, text=without)
    assert editor.tables["services"].keys() == {"new"}
    assert load_sources(editor.sources, {}, now=NOW).warnings[-2:] == (
        "the change of services.madre has no effect: the configuration file no longer has it",
        "the change of services.shub has no effect: the configuration file no longer has it",
    )
    # One that is put where the file has none is whole, and so is one that is undone and put again.
    editor.keep(undone(editor.layer, MADRE, at=NOW, by="ana"))
    editor.put(MADRE, {"url": "http://127.0.0.1:9001"})
    assert editor.tables["services"].keys() == {"new", "madre"}
    assert editor.layer.parts == {("services", "shub")}


def test_what_changes_nothing_makes_no_revision(editor: Editor) -> None:
    assert editor.put(MADRE, editor.tables["services"]["madre"]) is editor.layer
    assert editor.put(("services", "nobody"), MISSING) is editor.layer
    assert editor.layer == ChangeLayer()


def test_a_service_is_added_and_removed(editor: Editor) -> None:
    editor.put(("services", "new"), {"url": "http://h", "about": None})
    assert editor.layer.changes == {"services": {"new": {"url": "http://h"}}}
    assert editor.put(("services", "new"), MISSING).changes == {}
    # One of the file needs a mark that it is gone.
    assert editor.put(MADRE, MISSING).changes == {"services": {"madre": None}}
    assert "madre" not in editor.tables["services"]
    assert editor.put(MADRE, {"url": "http://h"}).changes["services"]["madre"] == {
        "url": "http://h",
        "token": None,
        "breaker": None,
        "routes": None,
    }


def test_a_removed_service_loses_its_override(editor: Editor) -> None:
    editor.switch("madre", enabled=False, length=HOUR)
    assert editor.put(MADRE, MISSING).overrides == {}


def test_secrets_can_be_sent_back_as_masks(editor: Editor) -> None:
    shown = masked(editor.tables)["services"]["madre"]
    assert shown["token"] == MASK
    layer = editor.put(MADRE, {**shown, "about": "x"})
    assert layer.changes == {"services": {"madre": {"about": "x"}}}
    hook = masked(editor.tables)["alerts"]["webhooks"]["ops"]
    assert editor.put(("alerts", "webhooks", "ops"), {**hook, "timeout": 3}).changes["alerts"] == {
        "webhooks": {"ops": {"timeout": 3}}
    }


def test_a_mask_of_nothing_is_a_fault(editor: Editor) -> None:
    new = {"url": "http://h", "token": MASK, "routes": [{"prefix": "/n", "set_headers": {"A": MASK}}]}
    words = "is the mask of a secret, and there is no secret here that it could stand for"
    assert faults_of(lambda: editor.put(("services", "new"), new)) == [
        f"services.new.token: {words}",
        f"services.new.routes[0].set_headers.A: {words}",
    ]


def test_files_can_be_named_by_the_configuration_file_only(editor: Editor) -> None:
    new = {"url": "http://h", "token_file": "/etc/shadow"}
    words = "names a file, which only the configuration file can"
    assert faults_of(lambda: editor.put(("services", "new"), new)) == [f"services.new.token_file: {words}"]
    hook = {"url": "https://h", "secrets_file": "/etc/shadow"}
    assert faults_of(lambda: editor.put(("alerts", "webhooks", "new"), hook)) == [
        f"alerts.webhooks.new.secrets_file: {words}"
    ]
    assert editor.layer == ChangeLayer()


def test_what_the_environment_overrides_is_refused_with_its_name(editor: Editor) -> None:
    editor.environ = {"TENTACULO_SERVICES_MADRE_ABOUT": "environment"}
    madre = editor.tables["services"]["madre"]
    with pytest.raises(SetByEnvironmentError) as caught:
        editor.put(MADRE, {**madre, "about": "x", "owner": "y"})
    assert caught.value.conflicts == (("services.madre.about", "TENTACULO_SERVICES_MADRE_ABOUT"),)
    assert editor.put(MADRE, {**madre, "owner": "y"}).changes == {"services": {"madre": {"owner": "y"}}}


def test_what_the_environment_sets_can_be_sent_back(editor: Editor) -> None:
    editor.environ = {
        "TENTACULO_SERVICES_MADRE_ABOUT": "environment",
        "TENTACULO_SERVICES_MADRE_TOKEN": "other",
        "TENTACULO_SERVICES_MADRE_STICKY": "TRUE",
        "TENTACULO_SERVICES_MADRE_BREAKER_FAILURES": "7",
    }
    shown = masked(effective_values(editor.sources.layered(editor.environ, NOW)))["services"]["madre"]
    assert (shown["about"], shown["token"]) == ("environment", MASK)
    sent = {**shown, "sticky": True, "breaker": {"failures": 7}, "owner": "y"}
    assert editor.put(MADRE, sent).changes == {"services": {"madre": {"owner": "y"}}}


def test_a_service_is_switched_for_good(editor: Editor) -> None:
    assert editor.switch("madre", enabled=False, reason="repair").changes == {
        "services": {"madre": {"enabled": False, "off_reason": "repair"}}
    }
    editor.environ = {"SHUB_ON": "no"}
    with pytest.raises(SetByEnvironmentError, match="SHUB_ON"):
        editor.switch("shub", enabled=True)
    editor.environ = {}
    assert editor.switch("shub", enabled=True).changes["services"]["shub"] == {"enabled": True}


def test_a_service_is_switched_for_a_time_above_the_environment(editor: Editor) -> None:
    editor.environ = {"SHUB_ON": "no"}
    layer = editor.switch("shub", enabled=True, length=HOUR, reason="demo")
    assert layer.changes == {}
    assert layer.overrides["shub"].until == NOW + HOUR
    assert load_sources(editor.sources, editor.environ, now=NOW).config.services["shub"].enabled
    assert not load_sources(editor.sources, editor.environ, now=NOW + HOUR).config.services["shub"].enabled


def test_switching_for_good_ends_an_override(editor: Editor) -> None:
    editor.switch("madre", enabled=False, length=HOUR)
    layer = editor.switch("madre", enabled=True)
    assert (layer.changes, layer.overrides) == ({"services": {"madre": {"enabled": True}}}, {})


@pytest.mark.parametrize(
    "length", [timedelta(), timedelta(seconds=-1), timedelta(days=367), timedelta(milliseconds=10)]
)
def test_a_time_that_is_too_short_or_too_long_is_a_fault(editor: Editor, length: timedelta) -> None:
    fault = "for: must be from 1 second to 366 days"
    assert faults_of(lambda: editor.switch("madre", enabled=False, length=length)) == [fault]


def test_an_override_is_taken_back(editor: Editor) -> None:
    layer = editor.switch("madre", enabled=False, length=HOUR)
    assert released(layer, "shub", at=NOW, by="ben") is layer
    assert (
        released(layer, "madre", at=NOW, by="ben").overrides,
        released(layer, "madre", at=NOW, by="b").revision,
    ) == ({}, 2)


def test_changes_are_undone(editor: Editor) -> None:
    editor.put(MADRE, MISSING)
    layer = editor.put(("services", "new"), {"url": "http://h"})
    assert undone(layer, MADRE, at=NOW, by="ben").changes == {"services": {"new": {"url": "http://h"}}}
    assert undone(layer, ("services", "shub"), at=NOW, by="ben") is layer
    everything = undone(layer, (), at=NOW, by="ben")
    assert everything.is_empty
    assert everything.revision == 3
    assert undone(everything, (), at=NOW, by="ben") is everything


def test_overrides_that_are_over_are_tidied_away(editor: Editor) -> None:
    editor.switch("madre", enabled=False, length=HOUR)
    layer = editor.switch("shub", enabled=True, length=2 * HOUR)
    names = {"madre", "shub"}
    assert tidied(layer, names, now=NOW) is layer
    assert set(tidied(layer, names, now=NOW + HOUR).overrides) == {"shub"}
    assert set(tidied(layer, {"madre"}, now=NOW).overrides) == {"madre"}
    # The clock was set back: they start now, and are as long as they were.
    back = tidied(layer, names, now=NOW - timedelta(days=1))
    assert back.overrides["madre"].until == NOW - timedelta(days=1) + HOUR


def test_a_layer_that_names_a_file_is_refused(editor: Editor) -> None:
    """The row of several machines may be written by whoever has the database: a service would get what is in the file."""
    for place in (("services", "madre", "token_file"), ("alerts", "webhooks", "ops", "secrets_file")):
        changes = with_value({}, place, "/run/secrets/other")
        layer = ChangeLayer(1, NOW, "somebody", changes)
        (fault,) = faults_of(partial(editor.keep, layer))
        assert fault == f"{'.'.join(place)}: names a file, which only the configuration file can"
    removed = with_value({}, ("services", "madre", "token_file"), None)
    load_sources(replace(Editor().sources, layer=ChangeLayer(1, NOW, "ana", removed)), {}, now=NOW)


@pytest.mark.parametrize("depth", [400, 600, 950])
def test_a_layer_that_is_nested_deeply_is_a_fault(editor: Editor, depth: int) -> None:
    about: Any = 1
    for _ in range(depth):
        about = {"x": about}
    layer = ChangeLayer(1, NOW, "somebody", {"services": {"madre": {"about": about}}})
    (fault,) = faults_of(partial(editor.keep, layer))
    assert fault.endswith(("is nested too deeply", "about: must be text")), fault
