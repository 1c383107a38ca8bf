"""The search of `tests/wire/test_desync.py`, continued at random: any length with any coding, body, line end and cut."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.conftest import living
from tests.support.search import SEARCH
from tests.wire.ambiguities import any_shapes
from tests.wire.trials import hold
from tests.wire.witness import Witness, listening

CASES = 15_000 * SEARCH


@pytest.mark.timeout(125 * SEARCH)
@pytest.mark.usefixtures("only_warnings")
async def test_no_framing_at_all_makes_a_request_that_nobody_made(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    async with listening(Witness()) as witness:
        service = {
            "url": f"http://127.0.0.1:{witness.port}",
            "routes": [{"prefix": "/s", "strip": True, "auth": "none"}],
            "breaker": {"failures": 1_000_000},
        }
        async with living(tmp_path, {"s": service}) as live:
            tally = await hold(any_shapes(random.Random(seed), CASES), live, witness)
    assert not tally.faults, f"seed {seed}: {len(tally.faults)} faults, such as\n" + "\n".join(tally.faults[:10])
