"""VX11's runtime truth script beside the gateway: both probe the same services and write the same table."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from tentaculo.demo.process import Demo
from tentaculo.demo.services import Ports
from tests.support.gateway_process import running_gateway
from tests.support.runtime_tables import SERVICES, SHAPES, make_foreign, make_services
from tests.support.waits import eventually

SCRIPT = Path(__file__).with_name("truth_script.py")


def _rows(database: Path) -> dict[str, dict[str, Any]]:
    connection = sqlite3.connect(database, timeout=10)
    connection.row_factory = sqlite3.Row
    try:
        found = connection.execute(f"SELECT * FROM {SERVICES} WHERE service_name IS NOT NULL").fetchall()
    finally:
        connection.close()
    return {row["service_name"]: dict(row) for row in found}


async def _run_script(database: Path, urls: Mapping[str, str]) -> str:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(SCRIPT), str(database), *(f"{name}={url}" for name, url in urls.items())),
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0
    return output.decode()


@pytest.mark.parametrize("shape", SHAPES)
async def test_both_write_the_same_table(tmp_path: Path, shape: str) -> None:
    """Each shape of the table: the script finds what it wrote before, and neither loses the other's rows."""
    database = tmp_path / "vx11.db"
    engine = create_engine(f"sqlite:///{database}", poolclass=NullPool)
    with engine.begin() as connection:
        make_services(connection, shape)
        make_foreign(connection, 5)
    before = _rows(database)
    async with Demo(ports=Ports.FREE) as demo:
        config = {**demo.config_data, "database": {"url": f"sqlite:///{database}"}}
        async with running_gateway(config) as gateway:
            # The gateway adds the columns that the shape lacks, and keeps each row and its id.
            await eventually(lambda: _rows(database)["madre"].get("endpoint_ok"), "the row of madre")
            now = _rows(database)
            assert {name: now[name]["id"] for name in before} == {name: row["id"] for name, row in before.items()}
            assert now["operator_backend"] == {**now["operator_backend"], **before["operator_backend"]}
            urls = {name: f"http://127.0.0.1:{port}/health" for name, port in demo.ports.items()}
            output = await _run_script(database, {"tentaculo_link": f"{gateway.url}/health", **urls})
            assert "tentaculo_link: OK 200" in output
            assert "madre: OK 200" in output
            # Two of VX11's modules ask for their token on /health, which the script does not send.
            assert "hermes: BROKEN 401" in output
            written = _rows(database)
            assert written["hermes"]["status"] == "BROKEN"
            assert written["hermes"]["snippet"] is not None
            # The gateway's next probe corrects the row in place.
            await eventually(lambda: _rows(database)["hermes"]["status"] == "OK", "the row of hermes")
            assert _rows(database)["hermes"]["id"] == written["hermes"]["id"]
            assert await gateway.stop() == 0
    assert len(_rows(database)) >= len(before)
    engine.dispose()
