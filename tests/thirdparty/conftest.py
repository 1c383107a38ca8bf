"""What these tests share: a request made directly and through the gateway, to compare."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

import pytest_asyncio
from aiohttp import ClientSession, DummyCookieJar

KEPT = (
    *("accept-ranges", "content-encoding", "content-length", "content-range", "content-type", "etag"),
    *("last-modified", "vary", "location"),
)
"""Headers that must come out as the upstream sent them."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: dict[str, list[str]]
    body: bytes


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client() -> AsyncIterator[ClientSession]:
    """A client that adds nothing, follows nothing and unpacks nothing."""
    skipped = ("Accept", "Accept-Encoding", "User-Agent")
    async with ClientSession(auto_decompress=False, cookie_jar=DummyCookieJar(), skip_auto_headers=skipped) as session:
        yield session


async def ask(client: ClientSession, method: str, url: str, headers: Mapping[str, str]) -> Answer:
    """The answer, with the boundary of a multipart one made equal, since servers number them."""
    async with client.request(method, url, headers=headers, allow_redirects=False) as response:
        body = await response.read()
        kept = {name: response.headers.getall(name, []) for name in KEPT}
        boundary = re.search(r"boundary=(\S+)", "".join(kept["content-type"]))
        if boundary:
            body = body.replace(boundary[1].encode(), b"BOUNDARY")
            kept["content-type"] = [value.replace(boundary[1], "BOUNDARY") for value in kept["content-type"]]
        return Answer(response.status, kept, body)


async def accepts(port: int, process: asyncio.subprocess.Process) -> bool:
    """Wait until somebody listens at `port`; false if the process ends before."""
    async with asyncio.timeout(10):
        while process.returncode is None:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                await writer.wait_closed()
                return True
    return False


async def end(process: asyncio.subprocess.Process) -> None:
    """Stop a server that a fixture started."""
    if process.returncode is None:
        process.terminate()
        await asyncio.wait_for(process.wait(), 10)
