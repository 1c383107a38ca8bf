"""Some rounds of `kill -9` under load. `make kills` runs twenty of each."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kills.rounds import SCENARIOS, kill_repeatedly

ROUNDS = 3


@pytest.mark.timeout(300)
@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_nothing_acknowledged_is_lost_and_nothing_is_repeated(scenario: str, tmp_path: Path) -> None:
    result = await kill_repeatedly(scenario, ROUNDS, tmp_path)
    assert not result.faults
    assert len(result.pauses) == ROUNDS
    assert result.duplicates > 0, "some events were sent again"
    assert result.set_back > 0, "the clock was set back"
