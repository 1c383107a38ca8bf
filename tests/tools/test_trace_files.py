"""The paths through the code stay short: a newcomer can follow each of them."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.support.gateway_process import ROOT, clean_environment

CEILINGS = {
    "repeated GET, fast path": 16,
    "repeated GET, ordinary path": 23,
    "ingested event": 19,
    "failed probe, nothing changes": 21,
    "failed probe, to the opened incident": 29,
    "failed probe, to the stored incident": 47,
    "status page": 43,
}
"""Files of tentaculo/ that each path may visit. docs/architecture.md has the goals; lower these as paths get shorter.

An incident is stored within 45, and a few more where what the gateway does each second falls into the same moment."""


@pytest.mark.soak
def test_each_path_visits_few_files() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tools.trace_files", "--json"],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found.keys() == CEILINGS.keys()
    assert {name: path["files"] for name, path in found.items() if path["files"] > CEILINGS[name]} == {}
    # A trace that sees too little would pass as well.
    assert all(path["files"] > 5 and path["calls"] > 20 for path in found.values())
