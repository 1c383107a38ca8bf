"""What workers are handed down is what the supervisor read, secrets included, and lies in no file."""

from __future__ import annotations

import os

from tentaculo.config.loader import load
from tentaculo.workers.worker_spec import WorkerSpec
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
