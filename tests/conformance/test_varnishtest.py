"""varnishtest: one script in vtc/ for each thing that forwarding owes, with its own client and its own upstream.

A script reaches the gateway at ${gateway}, below the path ${at}, which the upstream does not see; its server listens
at ${upstream}, where nothing is until the script starts it.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.gateway_process import Running, running_gateway
from tests.support.needs import need

pytestmark = pytest.mark.asyncio(loop_scope="module")
SCRIPTS = sorted((Path(__file__).parent / "vtc").glob("*.vtc"))
TIMEOUT = 20


@dataclass(frozen=True, slots=True)
class Stage:
    gateway: Running
    ports: Mapping[str, int]
    """Where each script's upstream will be."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage() -> AsyncIterator[Stage]:
    need(shutil.which("varnishtest"), "varnishtest (Debian: varnish)")
    with ExitStack() as stack:
        ports = {}
        for script in SCRIPTS:
            # Bound, so that nobody else takes the port, but not listening, so that the script's server can.
            held = stack.enter_context(socket.socket())
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            held.bind(("127.0.0.1", 0))
            ports[script.stem] = held.getsockname()[1]
        services = {
            name: {
                "url": f"http://127.0.0.1:{port}",
                # It is never probed: a script's server counts its connections.
                "probe": {"kind": "heartbeat", "silence": 86400},
                "routes": [{"prefix": f"/{name}", "strip": True, "auth": "none"}],
            }
            for name, port in ports.items()
        }
        async with running_gateway({"services": services}) as gateway:
            yield Stage(gateway, ports)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
async def test_script(stage: Stage, script: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *("varnishtest", "-t", str(TIMEOUT)),
        *("-D", f"gateway=127.0.0.1:{stage.gateway.port}", "-D", f"at=/{script.stem}"),
        *("-D", f"upstream=127.0.0.1:{stage.ports[script.stem]}", str(script)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await asyncio.wait_for(process.communicate(), TIMEOUT + 10)
    assert process.returncode == 0, said.decode(errors="replace")
