"""The commands, links and configuration in the README work."""

from __future__ import annotations

import asyncio
import re
import shutil
import tomllib
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tentaculo.config.schema import Config
from tentaculo.demo.process import Demo
from tentaculo.demo.services import Ports
from tests.support.gateway_process import ROOT, Running, running_gateway
from tests.support.needs import need

pytestmark = pytest.mark.asyncio(loop_scope="module")
README = (ROOT / "README.md").read_text()
CURLS = [line for line in README.splitlines() if line.startswith("curl ")]
API = (ROOT / "docs" / "api.md").read_text()
NATIVE = re.findall(r"^\| (?:`GET|`POST|WebSocket) ?`?(/[^` ]*)`", API, re.MULTILINE)

WRITES = {path for path in NATIVE if path.startswith("/tentaculo/admin/")} - {"/tentaculo/admin/reload"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway() -> AsyncIterator[Running]:
    need(shutil.which("curl"), "curl")
    async with Demo(ports=Ports.FREE) as demo, running_gateway(demo.config_data) as running:
        yield running


@pytest.mark.command
@pytest.mark.parametrize("line", CURLS)
async def test_each_curl_line_works(gateway: Running, line: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *("sh", "-c", line.replace("curl ", "curl --fail --silent --show-error ", 1)),
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "URL": gateway.url, "TOKEN": gateway.token},
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
    )
    output, errors = await process.communicate()
    expected = 28 if "--max-time" in line else 0
    assert process.returncode == expected, errors.decode()
    assert output


async def test_every_native_path_has_a_curl_line() -> None:
    # A path with the id of an incident or a maintenance window needs one that exists.
    # The write API has its lines in its own document.
    fixed = {path for path in NATIVE if "<id>" not in path and path not in WRITES}
    # Parts of the summary, which has a line.
    fixed -= {path for path in fixed if path.startswith("/status/api/v2/")} - {"/status/api/v2/summary.json"}
    assert len(fixed) > 30
    # A new path may have its line in its section of the API's document alone.
    lines = [*CURLS, *(line for line in API.splitlines() if line.startswith("curl "))]
    called = {match for line in lines for match in re.findall(r"\$URL(/[^\s\"?]*)", line)}
    named = {
        "/": "/status",
        "/<service>/health": "/madre/health",
        "/vx11/history/<service>": "/vx11/history/madre",
        "/status/services/<service>": "/status/services/madre",
        "/status/badges/<service>.svg": "/status/badges/madre.svg",
        "/status/badges/<service>.json": "/status/badges/madre.json",
    }
    # The services of the demonstration are probed; none of them sends heartbeats. Forms are for browsers. It has no file.
    others = {"/vx11/heartbeat/<service>", "/status/sign-out", "/status/actions", "/tentaculo/admin/reload"}
    assert {named.get(path, path) for path in fixed} - others <= called


async def test_every_linked_file_exists() -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README + API) if "://" not in link]
    assert len(links) > 5
    missing = [link for link in links if not (ROOT / link).exists() and not (ROOT / "docs" / link).exists()]
    assert missing == []


async def test_the_configuration_example_is_valid() -> None:
    text = "".join(re.findall(r"```toml\n(.*?)```", README, re.DOTALL))
    text = text.replace("sha256:…", "sha256:" + "0" * 64).replace("whsec_…", "whsec_" + "A" * 32)
    tables = tomllib.loads(text)
    assert list(Config.of(tables).services) == ["madre"]
