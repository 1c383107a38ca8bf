"""`server.workers`: how many there may be, and what an operator is told of more than one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tentaculo.cli.check import summarise
from tentaculo.config.errors import ConfigError
from tentaculo.config.loader import load_tables

SERVICES = {"madre": {"url": "http://127.0.0.1:8001"}}


@pytest.mark.parametrize("workers", [0, -1, 65, True, "2", 1.5])
def test_a_number_that_cannot_be_is_a_fault(workers: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        load_tables({"server": {"workers": workers}}, {}, folder=Path.cwd())
    assert [fault.path for fault in caught.value.faults] == ["server.workers"]


def test_the_environment_may_say_it() -> None:
    assert load_tables({}, {"TENTACULO_SERVER_WORKERS": "4"}, folder=Path.cwd()).config.server.workers == 4


def test_check_says_in_one_sentence_what_is_then_per_worker() -> None:
    tables = {"server": {"workers": 3}, "services": SERVICES}
    (told,) = [line for line in summarise(load_tables(tables, {}, folder=Path.cwd())) if "worker" in line]
    assert told.startswith("warning: server.workers is 3: each worker has its own breakers and metrics")


@pytest.mark.parametrize("tables", [{"services": SERVICES}, {"server": {"workers": 3}}], ids=["one", "demonstration"])
def test_of_one_process_nothing_is_said(tables: dict[str, Any]) -> None:
    assert load_tables(tables, {}, folder=Path.cwd()).warnings == ()
