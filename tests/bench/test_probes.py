"""What is measured of probing, on a fleet that is small."""

from __future__ import annotations

import tomllib
from pathlib import Path

from bench.probes import configuration, measure
from tentaculo.config.schema import Config


def test_the_configuration_is_one() -> None:
    config = Config.of(tomllib.loads(configuration(8000, 3, 2, 0.5, (8001, 8002))))
    assert [service.upstreams[0].port for service in config.services.values()] == [8001] * 3 + [8002] * 2
    assert {service.probe.interval for service in config.services.values()} == {0.5}


async def test_a_small_fleet(tmp_path: Path) -> None:
    found = await measure(tmp_path, 4, 2, 0.5, 4)
    assert found.share > 0
    assert found.well.low >= 1
    assert found.hung is not None
    assert found.due == 8
