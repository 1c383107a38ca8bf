"""What the command `status export` does: it follows the links of the status pages and writes what they lead to as files."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Iterator
from datetime import datetime
from http.client import HTTPException
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, urlsplit

import click

from tentaculo.cli import export_folder
from tentaculo.cli.event_log import Gateway, find_gateway
from tentaculo.cli.output import FaultError, StartError, warn
from tentaculo.cli.static_page import Notice, static_page
from tentaculo.config.loader import load_usable
from tentaculo.config.schema import Config
from tentaculo.model.text import format_time, utc_now
from tentaculo.store.errors import StoreUnavailable

MOST_FILES: Final = 3000
_MOST_BYTES: Final = 32 * 1024 * 1024
"""Of one page."""
_RANGE: Final = re.compile(r"3h|24h|7d|90d")
_PAGE: Final = re.compile(r"/status/(services/[A-Za-z0-9_-]+|incidents|events|incidents/\d+)")
_DOCUMENT: Final = re.compile(r"/status/(api/v2/[a-z-]+(?:/[a-z-]+)?\.json|incidents\.atom)")
_DOCUMENTS: Final = (
    *("summary", "status", "components", "incidents", "incidents/unresolved"),
    *("scheduled-maintenances", "scheduled-maintenances/upcoming", "scheduled-maintenances/active"),
)
_ATTEMPTS: Final = 5
"""Attempts to get a page from a gateway that is busy, a second each."""


def file_of(address: str) -> str | None:
    """The file of a page of the gateway, from the root of the export; None for one that is not exported."""
    parts = urlsplit(address)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    if parts.path == "/status":
        if not query:
            return "index.html"
        return f"{query['range']}.html" if query.keys() == {"range"} and _RANGE.fullmatch(query["range"]) else None
    if query:
        return None
    if found := _DOCUMENT.fullmatch(parts.path):
        return found[1]
    found = _PAGE.fullmatch(parts.path)
    return f"{found[1]}.html" if found else None


def export(folder: Path, file: Path | None, url: str | None, token: str | None) -> None:
    """Write the pages of the gateway to `folder`; those of its database where it does not respond and `url` is None.

    Raises ConfigError, `FaultError` and `StartError`.
    """
    gateway = find_gateway(file, url, token)
    now = utc_now()
    at = format_time(now)
    try:
        files = dict(_read(gateway, Notice("", f"This is a copy, as of {at}. It does not follow what happens.")))
    except (OSError, HTTPException) as error:
        if url is not None:
            gateway.no_response(error)
        warn(f"the gateway at {gateway.url} does not respond; the pages are made from its database")
        files, at = _read_stored(load_usable(file).config, now)
    written = export_folder.write(folder, files)
    click.echo(f"{folder} has {written.files} files as of {at}: {written.changed} changed, {written.removed} removed.")


def _read_stored(config: Config, now: datetime) -> tuple[dict[str, bytes], str]:
    """The files of a gateway that does not run, and as of when they are. Raises `StartError`."""
    from tentaculo.gateway.stored_pages import serving_stored
    from tentaculo.web.rendering import icon

    async def read() -> tuple[dict[str, bytes], str]:
        async with serving_stored(config, now) as stored:
            at = format_time(stored.at)
            headline = "The gateway does not respond."
            text = (
                f"No request reaches a service through it. It last ran at {at}; below is what it knew then."
                f" This is a copy, made at {format_time(now)}."
            )
            notice = Notice(headline, text, icon("down"))
            gateway = Gateway(stored.url, None)
            files = await asyncio.to_thread(lambda: dict(_read(gateway, notice)))
            for name in ("summary", "status"):
                files[f"api/v2/{name}.json"] = _with_outage(files[f"api/v2/{name}.json"], f"{headline} As of {at}")
            return files, at

    try:
        return asyncio.run(read())
    except StoreUnavailable as error:
        raise StartError(error.detail or error.failure.title) from None


def _with_outage(document: bytes, said: str) -> bytes:
    """The document with the outage of the gateway, of which its services know nothing."""
    found = json.loads(document)
    found["status"] = {"indicator": "critical", "description": f"{said}: {found['status']['description']}"}
    return json.dumps(found).encode()


def _read(gateway: Gateway, notice: Notice) -> Iterator[tuple[str, bytes]]:
    """Every file with its name; the overview comes last, so that it leads to no file that is not there yet."""
    waiting = ["/status", *(f"/status/api/v2/{name}.json" for name in _DOCUMENTS)]
    seen = set(waiting)
    overview = b""
    for address in waiting:
        name, body = file_of(address), _get(gateway, address)
        if name is None:
            continue
        if name.endswith(".html"):
            text, links = static_page(body.decode(), address, name.count("/"), file_of, notice)
            body = text.encode()
            new = [link for link in dict.fromkeys(links) if link not in seen]
            if len(waiting) + len(new) > MOST_FILES:
                raise FaultError(f"there are more than {MOST_FILES} pages")
            waiting += new
            seen.update(new)
        if address == "/status":
            overview = body
        else:
            yield name, body
    yield "index.html", overview


def _get(gateway: Gateway, address: str) -> bytes:
    parts = urlsplit(address)
    # A token opens the pages, and must not make more of them than everybody may see.
    query = [*parse_qsl(parts.query), ("as", "public")]
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            body = gateway.get(parts.path, query).read(_MOST_BYTES + 1)
            break
        except HTTPException:
            # It responds 503 while too many ask.
            if attempt == _ATTEMPTS:
                raise
            time.sleep(1)
    if len(body) > _MOST_BYTES:
        raise FaultError(f"{gateway.url}{address} is too large for a page")
    return body
