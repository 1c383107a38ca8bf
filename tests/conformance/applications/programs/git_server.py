"""Serves the git repositories of a folder by git's own CGI program: git_server.py PORT FOLDER."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE
from email.parser import BytesHeaderParser

from aiohttp import web

BACKEND = ["git", "http-backend"]


async def serve(request: web.Request) -> web.StreamResponse:
    """Run the CGI program for one request."""
    variables = {
        "GIT_PROJECT_ROOT": sys.argv[2],
        "GIT_HTTP_EXPORT_ALL": "1",
        "REMOTE_USER": "tests",
        "REQUEST_METHOD": request.method,
        "PATH_INFO": request.path,
        "QUERY_STRING": request.query_string,
        "CONTENT_TYPE": request.headers.get("Content-Type", ""),
        "HTTP_CONTENT_ENCODING": request.headers.get("Content-Encoding", ""),
        "GIT_PROTOCOL": request.headers.get("Git-Protocol", ""),
    }
    process = await asyncio.create_subprocess_exec(*BACKEND, env={**os.environ, **variables}, stdin=PIPE, stdout=PIPE)
    body = await request.read()
    output, _ = await process.communicate(body)
    head, _, content = output.partition(b"\r\n\r\n")
    headers = BytesHeaderParser().parsebytes(head)
    status = int(headers.get("Status", "200").split()[0])
    del headers["Status"]
    response = web.Response(status=status, body=content)
    for name, value in headers.items():
        response.headers[name] = value
    return response


def main() -> None:
    """Listen until the process is ended."""
    # aiohttp would unpack a body that git compressed; the CGI program does that itself.
    application = web.Application(client_max_size=100_000_000)
    application.router.add_route("*", "/{path:.*}", serve)
    web.run_app(application, host="127.0.0.1", port=int(sys.argv[1]), auto_decompress=False, print=None)


if __name__ == "__main__":
    main()
