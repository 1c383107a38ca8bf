"""Debian's nginx behind the gateway: a large file, whole and in ranges, byte for byte."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest
import pytest_asyncio
from aiohttp import ClientSession

from tests.support.gateway_process import Running, running_gateway
from tests.support.needs import need
from tests.support.waits import free_port
from tests.thirdparty.conftest import accepts, ask, end

pytestmark = pytest.mark.asyncio(loop_scope="module")
NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
SIZE = 20_000_000
CONFIG = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  types {{ text/plain txt; application/octet-stream bin; }}
  gzip on;
  gzip_proxied any;
  gzip_types text/plain;
  gzip_min_length 100;
  gzip_vary on;
  server {{
    listen 127.0.0.1:{port};
    root {folder}/www;
  }}
}}
"""


@dataclass(frozen=True, slots=True)
class Behind:
    """nginx, and the gateway before it."""

    direct: str
    gateway: Running

    @property
    def through(self) -> str:
        return f"{self.gateway.url}/files"


async def _start(folder: Path) -> tuple[asyncio.subprocess.Process, int]:
    assert NGINX is not None
    for _ in range(5):
        port = free_port()
        (folder / "nginx.conf").write_text(CONFIG.format(folder=folder, port=port))
        command = (NGINX, "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(folder / "nginx.conf"))
        process = await asyncio.create_subprocess_exec(*command)
        if await accepts(port, process):
            return process, port
    raise AssertionError((folder / "error.log").read_text())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def behind(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Behind]:
    need(NGINX, "nginx (Debian: nginx-light)")
    folder = tmp_path_factory.mktemp("nginx")
    # As root, nginx serves as nobody.
    for above in (folder, folder.parent, folder.parent.parent):
        above.chmod(0o755)
    (folder / "www").mkdir()
    (folder / "www" / "large.bin").write_bytes(Random(1).randbytes(SIZE))
    (folder / "www" / "words.txt").write_text("the same words over and over\n" * 200)
    process, port = await _start(folder)
    try:
        service = {"url": f"http://127.0.0.1:{port}", "routes": [{"prefix": "/files", "strip": True}]}
        async with running_gateway({"services": {"nginx": service}}) as gateway:
            yield Behind(f"http://127.0.0.1:{port}", gateway)
    finally:
        await end(process)


REQUESTS = {
    "whole": ("GET", "/large.bin", {}, 200),
    "head": ("HEAD", "/large.bin", {}, 200),
    "first bytes": ("GET", "/large.bin", {"Range": "bytes=0-99"}, 206),
    "middle": ("GET", "/large.bin", {"Range": "bytes=10000000-12345678"}, 206),
    "last bytes": ("GET", "/large.bin", {"Range": "bytes=-1000"}, 206),
    "from there on": ("GET", "/large.bin", {"Range": f"bytes={SIZE - 5}-"}, 206),
    "several ranges": ("GET", "/large.bin", {"Range": "bytes=0-9,1000-100000,-7"}, 206),
    "head of a range": ("HEAD", "/large.bin", {"Range": "bytes=5-9"}, 206),
    "range out of bounds": ("GET", "/large.bin", {"Range": f"bytes={SIZE}-"}, 416),
    "range of an old version": ("GET", "/large.bin", {"Range": "bytes=0-9", "If-Range": '"old"'}, 200),
    "compressed": ("GET", "/words.txt", {"Accept-Encoding": "gzip"}, 200),
    "not compressed": ("GET", "/words.txt", {}, 200),
    "missing": ("GET", "/nothing", {}, 404),
    "refused method": ("POST", "/large.bin", {}, 405),
    "other method": ("DELETE", "/words.txt", {}, 405),
}


@pytest.mark.parametrize("name", REQUESTS)
async def test_the_answer_is_nginxs_own(behind: Behind, client: ClientSession, name: str) -> None:
    method, path, headers, status = REQUESTS[name]
    direct = await ask(client, method, behind.direct + path, headers)
    through = await ask(client, method, behind.through + path, {**headers, **behind.gateway.headers})
    assert direct.status == status
    assert (through.status, through.headers) == (direct.status, direct.headers)
    assert through.body == direct.body


async def test_validators_work_through_the_gateway(behind: Behind, client: ClientSession) -> None:
    url, headers = behind.through + "/large.bin", behind.gateway.headers
    (etag,) = (await ask(client, "HEAD", url, headers)).headers["etag"]
    unchanged = await ask(client, "GET", url, {**headers, "If-None-Match": etag})
    assert (unchanged.status, unchanged.body) == (304, b"")
    still_that = await ask(client, "GET", url, {**headers, "Range": "bytes=0-9", "If-Range": etag})
    assert (still_that.status, len(still_that.body)) == (206, 10)


async def test_many_ranges_at_once_make_up_the_file(behind: Behind, client: ClientSession) -> None:
    url, headers, step = behind.through + "/large.bin", behind.gateway.headers, SIZE // 16
    parts = await asyncio.gather(
        *(
            ask(client, "GET", url, {**headers, "Range": f"bytes={start}-{start + step - 1}"})
            for start in range(0, SIZE, step)
        )
    )
    assert b"".join(part.body for part in parts) == Random(1).randbytes(SIZE)
