"""`python -m http.server` behind the gateway: an HTTP/1.0 server that ends its answers by closing."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest
import pytest_asyncio
from aiohttp import ClientSession

from tests.support.gateway_process import Running, running_gateway
from tests.thirdparty.conftest import ask, end

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass(frozen=True, slots=True)
class Behind:
    """The server, and the gateway before it."""

    direct: str
    gateway: Running


def _fill(folder: Path) -> None:
    (folder / "large.bin").write_bytes(Random(2).randbytes(3_000_000))
    (folder / "empty").write_bytes(b"")
    (folder / "año 100%.txt").write_text("a name with a space and a percent sign")
    (folder / "py" / "folder").mkdir(parents=True)
    (folder / "py" / "folder" / "page.html").write_text("<p>hola</p>")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def behind(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Behind]:
    folder = tmp_path_factory.mktemp("www")
    _fill(folder)
    server = await asyncio.create_subprocess_exec(
        *(sys.executable, "-u", "-m", "http.server", "--bind", "127.0.0.1", "--directory", str(folder), "0"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        assert server.stdout is not None
        line = await asyncio.wait_for(server.stdout.readline(), 10)
        port = re.search(rb"port (\d+)", line)
        assert port is not None, line
        url = f"http://127.0.0.1:{int(port[1])}"
        routes = [{"prefix": "/static", "strip": True}, {"prefix": "/py"}]
        async with running_gateway({"services": {"static": {"url": url, "routes": routes}}}) as gateway:
            yield Behind(url, gateway)
    finally:
        await end(server)


REQUESTS = {
    "large file": ("GET", "/large.bin", {}, 200),
    "head": ("HEAD", "/large.bin", {}, 200),
    "empty file": ("GET", "/empty", {}, 200),
    "listing": ("GET", "/py/folder/", {}, 200),
    "escaped name": ("GET", "/a%C3%B1o%20100%25.txt", {}, 200),
    "missing": ("GET", "/nothing", {}, 404),
    "unsupported method": ("POST", "/large.bin", {}, 501),
    "not modified": ("GET", "/large.bin", {"If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"}, 304),
}


@pytest.mark.parametrize("name", REQUESTS)
async def test_the_answer_is_the_servers_own(behind: Behind, client: ClientSession, name: str) -> None:
    method, path, headers, status = REQUESTS[name]
    direct = await ask(client, method, behind.direct + path, headers)
    url = f"{behind.gateway.url}/static{path}"
    through = await ask(client, method, url, {**headers, **behind.gateway.headers})
    assert direct.status == status
    assert (through.status, through.headers) == (direct.status, direct.headers)
    assert through.body == direct.body


async def test_a_redirect_stays_behind_the_gateway(behind: Behind, client: ClientSession) -> None:
    direct = await ask(client, "GET", f"{behind.direct}/py/folder", {})
    assert (direct.status, direct.headers["location"]) == (301, ["/py/folder/"])
    kept = await ask(client, "GET", f"{behind.gateway.url}/py/folder", behind.gateway.headers)
    assert (kept.status, kept.headers["location"]) == (301, ["/py/folder/"])
    stripped = await ask(client, "GET", f"{behind.gateway.url}/static/py/folder", behind.gateway.headers)
    assert (stripped.status, stripped.headers["location"]) == (301, ["/static/py/folder/"])
