from __future__ import annotations

import json
import os
import stat
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tentaculo.config.change_layer import MOST_BYTES, ChangeLayer, TimedOverride, locked, read_layer, write_layer
from tentaculo.config.errors import ConfigError
from tests.support.config import SECRET

NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def override(*, enabled: bool = True) -> TimedOverride:
    return TimedOverride(enabled, NOON, NOON + HOUR, "ana", "a demonstration")


def faults(path: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read_layer(path)
    return [fault.message for fault in caught.value.faults]


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    file = tmp_path / "new" / "changes.json"
    assert read_layer(file) == ChangeLayer()
    changes = {"services": {"madre": {"url": "http://h", "about": None}, "gone": None}}
    layer = ChangeLayer().next(at=NOON, by="ana", changes=changes, overrides={"madre": override()})
    write_layer(file, layer)
    assert read_layer(file) == layer
    assert layer.revision == 1
    assert not layer.is_empty
    assert layer.next(at=NOON, by="ben").revision == 2


def test_only_its_owner_can_read_it_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "changes.json"
    before = os.umask(0)
    try:
        for number in range(3):
            write_layer(file, ChangeLayer(revision=number))
    finally:
        os.umask(before)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [one.name for one in tmp_path.iterdir()] == ["changes.json"]


def test_a_file_that_cannot_be_written_stays_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "changes.json"
    file.mkdir()
    with pytest.raises(OSError, match="it is no regular file"):
        write_layer(file, ChangeLayer())
    assert [one.name for one in tmp_path.iterdir()] == ["changes.json"]


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b'{"revision": "1"}',
        json.dumps({"secret": SECRET}).encode(),
        json.dumps({"changes": SECRET}).encode(),
        b"[" * 100_000,
        json.dumps({"overrides": {"madre": {"enabled": True, "since": SECRET, "until": SECRET}}}).encode(),
    ],
)
def test_what_is_no_file_of_changes_is_a_fault_that_quotes_nothing(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "changes.json").write_bytes(text)
    assert faults(tmp_path / "changes.json") == ["is not a file of changes that this version can read"]


def test_what_only_the_configuration_file_can_change_is_a_fault(tmp_path: Path) -> None:
    file = tmp_path / "changes.json"
    changes = {"auth": {"enabled": False}, "alerts": {"page": "http://h", "webhooks": {}}, "server": None}
    file.write_text(json.dumps({"changes": changes}))
    assert faults(file) == [
        f"changes {name}, which only the configuration file can" for name in ("auth", "alerts.page", "server")
    ]


def test_other_files_that_cannot_be_read_are_faults(tmp_path: Path) -> None:
    assert faults(tmp_path) == ["cannot be read: Is a directory"]
    large = tmp_path / "large"
    large.write_bytes(b" " * (MOST_BYTES + 1))
    assert faults(large) == [f"has more than {MOST_BYTES} bytes"]
    naive = {"enabled": True, "since": "2026-11-29T12:00:00", "until": "2026-11-29T13:00:00Z"}
    (tmp_path / "naive").write_text(json.dumps({"overrides": {"madre": naive}}))
    assert faults(tmp_path / "naive") == ["has an override of madre whose times have no offset"]


def test_an_override_ends_by_the_clock() -> None:
    layer = ChangeLayer(overrides={"madre": override()})
    assert layer.active(NOON) == layer.overrides
    assert layer.active(NOON + HOUR - timedelta(microseconds=1)) == layer.overrides
    assert layer.active(NOON + HOUR) == {}
    assert override().remaining(NOON + timedelta(minutes=20)) == timedelta(minutes=40)


def test_a_clock_that_was_set_back_makes_no_override_longer_than_it_was_asked_for() -> None:
    yesterday = NOON - timedelta(days=1)
    assert override().remaining(yesterday) == HOUR
    restarted = override().restarted(yesterday)
    assert (restarted.since, restarted.until) == (yesterday, yesterday + HOUR)
    assert override().restarted(NOON + timedelta(minutes=1)) == override()
    # A file with its end before its start has no override.
    assert ChangeLayer(overrides={"a": TimedOverride(True, NOON, NOON - HOUR)}).active(yesterday) == {}


def test_a_change_to_a_part_of_what_the_file_no_longer_has_is_an_orphan() -> None:
    webhooks = {"ops": {"timeout": 3}, "new": {"url": "https://h"}}
    services = {"madre": {"about": "x"}, "new": {"url": "http://h"}, "gone": None}
    layer = ChangeLayer(changes={"services": services, "alerts": {"webhooks": webhooks}})
    assert layer.orphans({}) == [("services", "madre"), ("alerts", "webhooks", "ops")]
    assert layer.over({}) == {
        "services": {"new": {"url": "http://h"}},
        "alerts": {"webhooks": {"new": {"url": "https://h"}}},
    }
    tables = {"services": {"madre": {"url": "http://m"}}, "alerts": {"webhooks": {"ops": {"url": "https://o"}}}}
    assert layer.orphans(tables) == []
    assert layer.over(tables)["services"]["madre"] == {"url": "http://m", "about": "x"}


def test_the_lock_lets_one_in_at_a_time(tmp_path: Path) -> None:
    file = tmp_path / "state" / "changes.json"
    order: list[str] = []
    entered = threading.Event()

    def second() -> None:
        entered.set()
        with locked(file):
            order.append("second")

    with locked(file):
        thread = threading.Thread(target=second)
        thread.start()
        assert entered.wait(5)
        order.append("first")
    thread.join(5)
    assert order == ["first", "second"]
