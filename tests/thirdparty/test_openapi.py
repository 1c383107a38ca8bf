"""schemathesis sends what `/tentaculo/openapi.json` allows and forbids, and compares the responses with the document."""

from __future__ import annotations

import asyncio
import re
import shutil
import sys
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path

import pytest
from aiohttp import ClientSession

from tests.support.gateway_process import ROOT, clean_environment, running_gateway
from tests.support.needs import need

HERE = Path(__file__).parent
EXAMPLES = 15
METHODS = {"get", "put", "post", "delete", "patch", "head", "options"}
COMMAND = Path(sys.executable).with_name("schemathesis")


@pytest.mark.timeout(400)
async def test_every_response_is_the_one_that_the_document_describes() -> None:
    need(shutil.which(COMMAND), "schemathesis")
    environment = clean_environment(
        {"PYTHONPATH": str(ROOT), "SCHEMATHESIS_HOOKS": "tests.thirdparty.schemathesis_hooks", "COLUMNS": "120"}
    )
    config = {"limits": {"events_batch": 20, "events_body": 20_000}, "database": {"durability": "process"}}
    async with running_gateway(config) as gateway:
        process = await asyncio.create_subprocess_exec(
            *(COMMAND, "--config-file", HERE / "schemathesis.toml"),
            *("run", f"{gateway.url}/tentaculo/openapi.json", "--url", gateway.url),
            *("--header", f"X-VX11-Token: {gateway.token}"),
            # A stream never ends by itself: tests/events/test_stream_fuzz.py has its queries.
            *("--exclude-operation-id", "streamEvents"),
            *("--max-examples", str(EXAMPLES), "--generation-deterministic", "--continue-on-failure"),
            # No pattern can say which characters Unicode calls printable.
            *("--generation-codec", "ascii", "--request-timeout", "10", "--no-color"),
            cwd=gateway.folder,
            env=environment,
            stdout=PIPE,
            stderr=STDOUT,
        )
        output, _ = await process.communicate()
        report = output.decode()
        assert process.returncode == 0, report[-6000:]
        tested = re.search(r"Tested: (\d+)", report)
        assert tested is not None
        assert int(tested[1]) == await _operations(gateway.url) - 1, "all but the stream"
        assert gateway.process.returncode is None
        assert "native handler failed" not in gateway.output.read_text()


async def _operations(url: str) -> int:
    """The operations of the served document."""
    async with ClientSession() as session, session.get(f"{url}/tentaculo/openapi.json") as response:
        paths = (await response.json())["paths"].values()
    return sum(method in METHODS for path in paths for method in path)
