"""Each of the gateway's own events has a sentence in each language."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tentaculo.model.health import GATEWAY_NAME
from tentaculo.server.content_negotiation import LANGUAGES
from tentaculo.web import event_text
from tentaculo.web.languages import language
from tests.support.gateway_process import ROOT
from tests.support.native_gateway import NOW, event

PAYLOADS: dict[str, dict[str, Any]] = {
    "gateway.alert.failed": {"channel": "phone", "reason": "connection refused"},
    "gateway.alert.sent": {"channel": "phone", "kind": "opened"},
    "gateway.breaker.changed": {"service": "hermes", "state": "half_open"},
    "gateway.caller.acted": {"caller": "ana", "how": "by_session", "action": "maintain"},
    "gateway.clock.right": {"service": "hermes"},
    "gateway.clock.wrong": {"service": "hermes"},
    "gateway.configuration.changed": {"by": "ana", "action": "set", "subject": "services.madre"},
    "gateway.configuration.loaded": {"services": ["hermes"]},
    "gateway.configuration.rejected": {"by": "signal", "faults": []},
    "gateway.configuration.reloaded": {"by": "signal", "generation": 2},
    "gateway.health.changed": {"service": "hermes", "after": "down"},
    "gateway.health.warning": {"service": "hermes", "signal": "requests_p95"},
    "gateway.health.warning_ended": {"service": "hermes", "signal": "requests_p95"},
    "gateway.incident.acknowledged": {"incident": 1, "author": "ana"},
    "gateway.incident.ended": {"incident": 1, "service": "hermes"},
    "gateway.incident.muted": {"incident": 1, "author": "ana", "until": None},
    "gateway.incident.opened": {"incident": 1, "service": "hermes"},
    "gateway.lease.taken": {"holder": "box-2"},
    "gateway.requests.limited": {"service": None, "limit": "rate"},
    "gateway.rotation.counted": {"service": "hermes", "route": "/hermes"},
    "gateway.started": {"version": "8.0.0"},
    "gateway.stopping": {"in_flight": 0},
    "gateway.token.expired": {"token": "ana"},
    "gateway.tokens.changed": {"added": [], "removed": [], "changed": ["ana"]},
    "gateway.tokens.rejected": {"reason": "not JSON"},
}


def recorded(path: Path) -> Iterator[str]:
    """The types that a module records: texts, names of its constants, or one of both by a condition."""
    tree = ast.parse(path.read_text("utf-8"))
    constants = dict[str, object]()
    for node in tree.body:
        target = (
            node.target
            if isinstance(node, ast.AnnAssign)
            else node.targets[0]
            if isinstance(node, ast.Assign)
            else None
        )
        if isinstance(target, ast.Name) and isinstance(value := getattr(node, "value", None), ast.Constant):
            constants[target.id] = value.value
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and call.args:
            called = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
            first = call.args[0]
            choices = [first.body, first.orelse] if isinstance(first, ast.IfExp) else [first]
            for one in choices:
                found = constants.get(one.id) if isinstance(one, ast.Name) else getattr(one, "value", None)
                if called in ("record", "_record") and isinstance(found, str):
                    yield f"gateway.{found}"


def title(type_: str, code: str = "en", **payload: Any) -> str:
    one = event(1, source=GATEWAY_NAME, type=type_, payload=payload)
    return event_text.title(one, language(code))


@pytest.mark.thorough
def test_every_recorded_type_is_documented_and_has_a_sentence_here() -> None:
    found = {type_ for path in (ROOT / "tentaculo").rglob("*.py") for type_ in recorded(path)}
    section = (ROOT / "docs" / "events.md").read_text("utf-8").partition("## The gateway's own events")[2]
    first = re.findall(r"(?m)^\| ((?:`gateway\.[a-z_.]+`(?:, )?)+) \|", section)
    documented = {type_ for cell in first for type_ in re.findall(r"`(.*?)`", cell)}
    assert found == documented == set(PAYLOADS)


@pytest.mark.parametrize("code", LANGUAGES)
@pytest.mark.parametrize("type_", PAYLOADS)
def test_the_title_is_a_sentence_with_what_it_is_about(type_: str, code: str) -> None:
    said = title(type_, code, **PAYLOADS[type_])
    assert type_ not in said
    assert "{" not in said
    for named in ("hermes", "phone", "box-2"):
        assert (named in said) == (named in PAYLOADS[type_].values())


@pytest.mark.parametrize("type_", PAYLOADS)
@pytest.mark.parametrize("bad", [None, 7, ["x"], {}, "", "x\u202ey"])
def test_an_event_of_another_version_has_a_title_too(type_: str, bad: object) -> None:
    payload: dict[str, Any] = dict.fromkeys(PAYLOADS[type_], bad)
    said = title(type_, **payload)
    assert said
    assert "\u202e" not in said
    assert title(type_)


def test_a_mute_until_a_time_that_has_come_is_its_end() -> None:
    assert title("gateway.incident.muted", until=NOW.isoformat()) == "The alerts of an incident were muted"
    over = event(1).received_at.isoformat()
    assert title("gateway.incident.muted", until=over) == "The alerts of an incident are sent again"


@pytest.mark.parametrize(
    ("action", "said"),
    [
        ("note", "ana added a note to an incident"),
        ("acknowledge", "ana acknowledged an incident"),
        ("mute", "ana changed the mute of an incident"),
        ("maintain", "ana planned maintenance"),
        ("change_maintenance", "ana changed maintenance"),
        ("end_maintenance", "ana ended maintenance"),
        ("of_later", "gateway.caller.acted"),
    ],
)
def test_what_a_caller_has_done(action: str, said: str) -> None:
    assert title("gateway.caller.acted", action=action, caller="ana") == said
    assert title("gateway.caller.acted", action="note", caller=None) == "Somebody added a note to an incident"
