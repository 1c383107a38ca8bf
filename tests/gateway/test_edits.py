"""What each edit of the write API makes of the layer of changes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tentaculo.config.change_layer import ChangeLayer
from tentaculo.config.errors import ConfigError
from tentaculo.config.layers import Sources
from tentaculo.gateway.edits import Action, Edit, NoSuchThingError, changed_keys, endpoints_of

FILE = """
[services.madre]
url = "http://127.0.0.1:8001"
routes = [{ prefix = "/madre" }, { prefix = "/m" }]
[services.fleet]
urls = ["http://127.0.0.1:1", "http://127.0.0.1:2"]
weights = [3, 1]
"""
NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
SOURCES = Sources(Path("/nowhere"), text=FILE)


def made(action: Action, place: tuple[str, ...], value: Any = None, **more: Any) -> ChangeLayer:
    return Edit(action, place, value, **more).apply(SOURCES, {}, at=NOW, by="ana")


def service(layer: ChangeLayer, name: str) -> Any:
    return layer.over(SOURCES.tables)["services"][name]


def test_a_service_is_merged_replaced_and_removed() -> None:
    merged = made(Action.MERGE, ("services", "madre"), {"about": "x", "routes": None})
    assert service(merged, "madre") == {"url": "http://127.0.0.1:8001", "about": "x"}
    assert service(made(Action.REPLACE, ("services", "new"), {"url": "http://h"}), "new") == {"url": "http://h"}
    assert "madre" not in made(Action.REMOVE, ("services", "madre")).over(SOURCES.tables)["services"]


@pytest.mark.parametrize(
    ("action", "value", "expected"),
    [
        (Action.REPLACE, [{"prefix": "/new"}], ["/new"]),
        (Action.APPEND, {"prefix": "/new"}, ["/madre", "/m", "/new"]),
        (Action.TAKE, 0, ["/m"]),
    ],
)
def test_routes_are_edited_one_by_one(action: Action, value: Any, expected: list[str]) -> None:
    layer = made(action, ("services", "madre", "routes"), value)
    assert [route["prefix"] for route in service(layer, "madre")["routes"]] == expected


def test_endpoints_have_their_weights() -> None:
    fleet = SOURCES.tables["services"]["fleet"]
    assert endpoints_of(fleet) == [
        {"url": "http://127.0.0.1:1", "weight": 3},
        {"url": "http://127.0.0.1:2", "weight": 1},
    ]
    place = ("services", "fleet", "endpoints")
    more = service(made(Action.APPEND, place, {"url": "http://127.0.0.1:3"}), "fleet")
    assert (len(more["urls"]), more["weights"]) == (3, [3, 1, 1])
    less = service(made(Action.TAKE, place, 1), "fleet")
    assert (less["urls"], less["weights"]) == (["http://127.0.0.1:1"], [3])
    one = service(made(Action.REPLACE, place, [{"url": "http://h"}]), "fleet")
    assert one == {"url": "http://h"}
    two = service(made(Action.APPEND, ("services", "madre", "endpoints"), {"url": "http://h"}), "madre")
    assert (two.get("url"), two["urls"]) == (None, ["http://127.0.0.1:8001", "http://h"])
    assert endpoints_of({}) == []


@pytest.mark.parametrize(
    "value", [[{"address": "x"}], ["http://h"], [{"url": "http://h", "port": 1}], {"url": "http://h"}]
)
def test_what_is_no_list_of_endpoints_is_a_fault(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"services\.fleet\.endpoints"):
        made(Action.REPLACE, ("services", "fleet", "endpoints"), value)


@pytest.mark.parametrize(
    ("action", "place"),
    [
        (Action.MERGE, ("services", "nobody")),
        (Action.REMOVE, ("services", "nobody")),
        (Action.SWITCH, ("services", "nobody")),
        (Action.RELEASE, ("services", "madre")),
        (Action.REPLACE, ("services", "nobody", "routes")),
        (Action.TAKE, ("services", "madre", "routes")),
        (Action.REMOVE, ("alerts", "webhooks", "ops")),
        (Action.TAKE, ("maintenance",)),
    ],
)
def test_what_is_not_there_cannot_be_edited(action: Action, place: tuple[str, ...]) -> None:
    with pytest.raises(NoSuchThingError):
        made(action, place, 9)


def test_maintenance_plans_are_a_list() -> None:
    plan = {"services": ["*"], "at": "02:00-03:00"}
    assert made(Action.APPEND, ("maintenance",), plan).changes == {"maintenance": [plan]}
    assert made(Action.REPLACE, ("maintenance",), [plan, plan]).changes == {"maintenance": [plan, plan]}


def test_an_event_names_the_changed_keys_and_no_values() -> None:
    layer = made(Action.MERGE, ("services", "madre"), {"token": "secret", "about": "x"})
    after = Sources(SOURCES.folder, text=FILE, layer=layer)
    assert changed_keys(SOURCES.layered({}, NOW), after.layered({}, NOW)) == [
        "services.madre.token",
        "services.madre.about",
    ]
    layer = made(Action.SWITCH, ("services", "madre"), enabled=True, length=timedelta(hours=1))
    after = Sources(SOURCES.folder, text=FILE, layer=layer)
    assert changed_keys(SOURCES.layered({}, NOW), after.layered({}, NOW)) == ["services.madre.enabled"]
