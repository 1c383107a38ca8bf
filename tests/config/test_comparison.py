from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from tentaculo.config.comparison import RESTART, Changes, appliable, compare, digest
from tentaculo.config.listening import ServerSettings
from tentaculo.config.schema import Config
from tentaculo.config.section import Section
from tests.support.gateway_process import ROOT

KEYS = ["whsec_" + 32 * letter for letter in "AB"]
SERVICES: dict[str, Any] = {
    name: {"url": f"http://127.0.0.1:{port}"} for port, name in enumerate(("madre", "hermes", "old"), 9000)
}


def test_equal_configurations_change_nothing() -> None:
    changes = compare(Config.of({"services": SERVICES}), Config.of({"services": SERVICES}))
    assert not changes
    assert changes == Changes(kept=("madre", "hermes", "old"))
    assert changes.lines() == ["nothing has changed, 3 services kept"]


def test_services_are_added_removed_changed_and_kept() -> None:
    after = {
        "fresh": {"url": "http://127.0.0.1:1"},
        "madre": SERVICES["madre"],
        "hermes": {"url": "http://127.0.0.1:2"},
    }
    changes = compare(Config.of({"services": SERVICES}), Config.of({"services": after}))
    assert changes == Changes(("fresh",), ("old",), ("hermes",), ("madre",))
    assert changes.lines() == ["added: fresh", "removed: old", "changed: hermes", "kept: 1 service"]


def test_keys_are_named_without_their_values() -> None:
    old = Config.of({"alerts": {"webhooks": {"ops": {"url": "https://a.example/secret-one", "secrets": [KEYS[0]]}}}})
    new = Config.of(
        {
            "alerts": {
                "webhooks": {
                    "ops": {"url": "https://a.example/secret-two", "secrets": [KEYS[0]]},
                    "on_call": {"url": "https://b.example/secret", "secrets": [KEYS[1]]},
                }
            },
            "limits": {"body": 5},
            "database": {"url": "postgresql://me:secret@db/x"},
        }
    )
    changes = compare(old, new)
    assert set(changes.changed_keys) == {"limits.body", "alerts.webhooks.ops.url", "alerts.webhooks.on_call"}
    assert list(changes.needs_restart) == ["database.url"]
    assert "secret" not in f"{changes.as_json()} {changes.lines()} {changes}".replace("secrets", "")


@pytest.mark.parametrize("key", RESTART)
def test_a_key_that_needs_a_restart_is_a_key_and_keeps_its_value(key: str) -> None:
    values: dict[str, Any] = {
        "server.host": "::1",
        "server.port": 1,
        "server.listen": ["127.0.0.1:1"],
        "server.instance": "other",
        "server.workers": 3,
        "database.url": "sqlite:///other.db",
        "database.durability": "process",
        "database.auto_upgrade": False,
        "events.wait": 1,
        "events.queue": 7,
        "log.level": "error",
        "log.format": "json",
        "log.access": False,
    }
    section, name = key.split(".")
    old, new = Config.of({}), Config.of({section: {name: values[key]}})
    if old == new:  # the value is the default
        pytest.fail(f"give {key} another value")
    changes = compare(old, new)
    assert (list(changes.needs_restart), changes.changed_keys) == ([key], ())
    assert getattr(getattr(appliable(old, new), section), name) == getattr(getattr(old, section), name)
    assert appliable(old, new) == old


def test_what_a_reload_applies_is_the_new_configuration() -> None:
    old, new = (
        Config.of({}),
        Config.of({"limits": {"body": 1}, "services": SERVICES, "server": {"grace": 1, "port": 1}}),
    )
    served = appliable(old, new)
    assert served.server.grace == 1
    assert served.server.port == old.server.port
    assert served.limits == new.limits
    assert served.services == new.services


def test_the_digest_is_of_every_value_and_of_the_tokens() -> None:
    one = Config.of({"services": SERVICES})
    assert digest(one, ["a", "b"]) == digest(Config.of({"services": SERVICES}), ["b", "a"])
    secret = {**SERVICES, "old": {**SERVICES["old"], "token": "x"}}
    other = {**SERVICES, "old": {**SERVICES["old"], "token": "y"}}
    found = {
        digest(one, ["a"]),
        digest(one, ["b"]),
        digest(Config.of({"services": secret}), ["a"]),
        digest(Config.of({"services": other}), ["a"]),
        digest(Config.of({"services": dict(reversed(SERVICES.items()))}), ["a"]),
        digest(Config.of({}), ["a"]),
    }
    assert len(found) == 6
    assert digest(one.replace(folder=Path("/elsewhere")), ["a"]) == digest(one, ["a"])


def test_no_key_has_a_set_whose_order_differs_between_processes() -> None:
    sections = Section.__subclasses__()
    assert ServerSettings in sections
    assert [one for one in sections if re.search(r"\b(frozen)?set\[", repr(get_type_hints(one)))] == []


def test_the_document_names_what_needs_a_restart() -> None:
    text = (ROOT / "docs/reload.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| `([a-z_.]+)` \| (.+) \|$", text, re.MULTILINE))
    assert rows == dict(RESTART)


def test_a_service_that_stays_as_it_is_is_not_held_twice() -> None:
    old, new = (
        Config.of({"services": {"same": {"url": "http://127.0.0.1:9"}, "other": {"url": f"http://127.0.0.1:{port}"}}})
        for port in (9, 10)
    )
    served = appliable(old, new)
    assert served == new
    assert served.services["same"] is old.services["same"]
    assert served.services["other"] is new.services["other"]
