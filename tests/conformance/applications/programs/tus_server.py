"""A server of the tus protocol 1.0 (resumable uploads) that keeps uploads in memory: tus_server.py PORT."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field

from aiohttp import web

HEADERS = {"Tus-Resumable": "1.0.0", "Tus-Version": "1.0.0", "Tus-Extension": "creation"}


@dataclass
class Upload:
    """One file that arrives in parts."""

    size: int
    content: bytearray = field(default_factory=bytearray)


uploads: dict[str, Upload] = {}


async def create(request: web.Request) -> web.Response:
    """Make an upload; Location has the address by which the client reached the service, as the service sees it."""
    name = os.urandom(8).hex()
    uploads[name] = Upload(int(request.headers["Upload-Length"]))
    return web.Response(status=201, headers={**HEADERS, "Location": f"http://{request.host}/files/{name}"})


async def offset(request: web.Request) -> web.Response:
    """Return how much of an upload is there."""
    upload = uploads[request.match_info["name"]]
    sizes = {"Upload-Offset": str(len(upload.content)), "Upload-Length": str(upload.size)}
    return web.Response(headers={**HEADERS, **sizes, "Cache-Control": "no-store"})


async def append(request: web.Request) -> web.Response:
    """Take the next part."""
    upload = uploads[request.match_info["name"]]
    if int(request.headers["Upload-Offset"]) != len(upload.content):
        return web.Response(status=409, headers=HEADERS)
    async for chunk in request.content.iter_any():
        upload.content += chunk
    return web.Response(status=204, headers={**HEADERS, "Upload-Offset": str(len(upload.content))})


async def download(request: web.Request) -> web.Response:
    """Return what was uploaded."""
    return web.Response(body=bytes(uploads[request.match_info["name"]].content))


def main() -> None:
    """Listen until the process is ended."""
    application = web.Application()
    application.router.add_post("/files/", create)
    application.router.add_head("/files/{name}", offset)
    application.router.add_patch("/files/{name}", append)
    application.router.add_get("/files/{name}", download, allow_head=False)
    web.run_app(application, host="127.0.0.1", port=int(sys.argv[1]), print=None)


if __name__ == "__main__":
    main()
