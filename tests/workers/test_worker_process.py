from __future__ import annotations

import os

import pytest

from tentaculo.config.loader import load
from tentaculo.workers.worker_process import ATTEMPTS, LAST_PAUSE, LASTING, RestartPolicy, WorkerSpec
from tests.support.gateway_process import ROOT

PATTERN = {"TENTACULO_SERVICES_MADRE_PROBE_MATCHES": "ok|well"}
"""Something that no process can hand to another as it is."""


def test_it_arrives_as_it_was_and_for_several_readers() -> None:
    environ = {"TENTACULO_TOKEN": "a-secret-token", "TENTACULO_SERVER_WORKERS": "3", "SHUB_ENABLED": "true", **PATTERN}
    config = load(ROOT / "docker" / "vx11.toml", environ).config
    job = WorkerSpec(config, ("sha256:" + "0" * 64,), "tentaculo-link-1")
    descriptor = job.write()
    try:
        assert os.readlink(f"/proc/self/fd/{descriptor}").startswith("/memfd:")
        for _ in range(2):
            read = WorkerSpec.read(descriptor)
            assert read == job
            assert read.workers == 3
            assert read.config.plain_token is not None
            assert read.config.plain_token.reveal() == "a-secret-token"
            assert read.config.folder == config.folder
            pattern = read.config.services["madre"].probe.matches
            assert pattern is not None
            assert pattern.is_in("all is well")
            assert read.config.services.keys() == config.services.keys()
    finally:
        os.close(descriptor)


def test_those_that_end_at_once_come_back_later_and_later() -> None:
    revival = RestartPolicy()
    pauses = [revival.pause(0.5, was_ready=True, was_stopped=False) for _ in range(9)]
    assert pauses == [0, 1, 2, 4, 8, 16, LAST_PAUSE, LAST_PAUSE, LAST_PAUSE]
    assert not revival.is_hopeless


def test_one_that_has_lasted_is_replaced_at_once_whatever_was_before() -> None:
    revival = RestartPolicy()
    for _ in range(4):
        revival.pause(0.5, was_ready=True, was_stopped=False)
    assert revival.pause(LASTING, was_ready=True, was_stopped=False) == 0
    assert revival.pause(LASTING - 1, was_ready=True, was_stopped=False) == 1


def test_one_that_was_stopped_to_end_is_no_failure() -> None:
    revival = RestartPolicy()
    assert [revival.pause(0.1, was_ready=True, was_stopped=True) for _ in range(5)] == [0] * 5
    assert revival.pause(0.1, was_ready=True, was_stopped=False) == 0, "the first failure of all"


@pytest.mark.parametrize("was_stopped", [False, True])
def test_a_place_whose_workers_never_take_requests_is_hopeless(was_stopped: bool) -> None:
    revival = RestartPolicy()
    for number in range(ATTEMPTS):
        assert not revival.is_hopeless
        assert revival.false_starts == number
        revival.pause(0.0, was_ready=False, was_stopped=was_stopped)
    assert revival.is_hopeless
    revival.pause(0.0, was_ready=True, was_stopped=False)
    assert not revival.is_hopeless
