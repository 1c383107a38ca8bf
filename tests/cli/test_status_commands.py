"""`tentaculo status export`, as a process against gateways that run, and against databases of those that do not."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
import sys
from asyncio.subprocess import PIPE
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tests.support.databases import sqlite
from tests.support.gateway_process import ROOT, TOKEN, clean_environment, running_gateway
from tests.support.waits import eventually, free_port

SERVICES = {
    "madre": {"url": "http://127.0.0.1:9", "group": "Core", "probe": {"interval": 0.5, "timeout": 0.5}},
    "hermes": {"url": "http://127.0.0.1:9", "enabled": False, "owner": "ana"},
}
FILES = {
    *("index.html", "3h.html", "24h.html", "7d.html", "90d.html", "incidents.html", "incidents.atom", "events.html"),
    *("services/madre.html", "services/hermes.html"),
    *(f"api/v2/{name}.json" for name in ("summary", "status", "components", "incidents", "incidents/unresolved")),
    *(f"api/v2/scheduled-maintenances{name}.json" for name in ("", "/upcoming", "/active")),
}


def tables(file: Path, port: int = 0, **sections: Any) -> dict[str, Any]:
    return {
        "server": {"port": port},
        "database": {"url": sqlite(file), "auto_upgrade": False},
        "page": {"title": "Casa", "zone": "Europe/Madrid"},
        "services": SERVICES,
        **sections,
    }


async def export(folder: Path, *arguments: str, config: dict[str, Any] | None = None) -> tuple[int | None, str, str]:
    if config is not None:
        (folder / "tentaculo.toml").write_text(toml(config))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tentaculo", "status", "export", *arguments),
        cwd=folder,
        env=clean_environment({"PYTHONPATH": str(ROOT), "TENTACULO_TOKEN": TOKEN}),
        stdout=PIPE,
        stderr=PIPE,
    )
    output, errors = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode, output.decode(), errors.decode()


def toml(config: dict[str, Any]) -> str:
    """The tables, of which each value is as JSON and TOML both write it, in one line."""
    lines = []
    for name, table in config.items():
        for below, value in table.items() if name == "services" else [("", table)]:
            lines.append(f"[{name}{'.' + below if below else ''}]")
            for key, one in value.items():
                nested = one.items() if isinstance(one, dict) else [("", one)]
                lines += [f"{key}{'.' + inner if inner else ''} = {json.dumps(deep)}" for inner, deep in nested]
    return "\n".join(lines)


def names(folder: Path) -> set[str]:
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    return {re.sub(r"incidents/\d+", "incidents/N", name) for name in found}


class Links(HTMLParser):
    def __init__(self, file: Path) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tags: set[str] = set()
        self.feed(file.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.found += [value or "" for name, value in attrs if name in ("href", "src", "action")]


async def wait_for_incident(file: Path) -> None:
    def is_there() -> bool:
        with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as connection:
            return bool(connection.execute("SELECT count(*) FROM tentaculo_incidents").fetchone()[0])

    await eventually(is_there, "an incident")


def everything(file: Path) -> list[str]:
    """The content of the database."""
    with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as connection:
        return list(connection.iterdump())


async def test_it_writes_the_pages_of_a_gateway_and_then_of_its_database(file: Path, tmp_path: Path) -> None:
    port = free_port()
    config = tables(file, port)
    async with running_gateway(config):
        await wait_for_incident(file)
        code, output, errors = await export(tmp_path, "out", config=config)
        assert (code, errors) == (0, "")
        folder = tmp_path / "out"
        assert names(folder) == FILES | {".tentaculo-export.json", "incidents/N.html"}
        assert re.fullmatch(r"out has 19 files as of \d{4}-\d\d-\d\d \d\d:\d\d UTC: 19 changed, 0 removed\.\n", output)
        for page in folder.rglob("*.html"):
            links = Links(page)
            assert links.tags.isdisjoint({"script", "form", "input"})
            for link in links.found:
                target = link.partition("#")[0]
                if target and not link.startswith(("data:", "https://")):
                    assert (page.parent / target).is_file(), f"{page.name}: {link}"
        index = (folder / "index.html").read_text()
        assert "This is a copy, as of " in index
        assert "madre is down" in index
        assert json.loads((folder / "api/v2/summary.json").read_text())["status"]["indicator"] == "critical"
        (folder / "mine.txt").write_text("mine")
    before = everything(file)
    code, output, errors = await export(tmp_path, "out")
    assert (code, "the pages are made from its database" in errors) == (0, True)
    assert everything(file) == before, "nothing is written"
    assert names(folder) == FILES | {".tentaculo-export.json", "incidents/N.html", "mine.txt"}
    for name in ("index", "services/hermes", "incidents"):
        text = (folder / f"{name}.html").read_text()
        assert re.findall("<h1>(.*?)</h1>", text) == ["The gateway does not respond."]
        assert "below is what it knew then" in text
    assert "<h2>madre is down" in (folder / "index.html").read_text()
    status = json.loads((folder / "api/v2/status.json").read_text())["status"]
    assert status["indicator"] == "critical"
    assert re.fullmatch(
        r"The gateway does not respond\. As of .* UTC: Everything is down|.*madre is down", status["description"]
    )


async def test_a_gateway_that_needs_a_token_gets_it(file: Path, tmp_path: Path) -> None:
    async with running_gateway(tables(file, auth={"open_status": False})) as gateway:
        await wait_for_incident(file)
        assert (await export(tmp_path, "out", "--url", gateway.url))[0] == 0
        for page in (tmp_path / "out").rglob("*.*"):
            assert "127.0.0.1:9" not in page.read_text(), "it has only what everybody may see"
        code, _, errors = await export(tmp_path, "other", "--url", gateway.url, "--token", "wrong-token-of-a-test")
        assert (code, "responds 40" in errors) == (2, True)
        assert not (tmp_path / "other").exists(), "nothing was written"


async def test_what_cannot_be_is_said(file: Path, tmp_path: Path) -> None:
    away = f"http://127.0.0.1:{free_port()}"
    code, _, errors = await export(tmp_path, "out", "--url", away)
    assert (code, f"the gateway at {away} does not respond" in errors) == (3, True)
    missing = tables(tmp_path / "none" / "t.db", free_port())
    code, _, errors = await export(tmp_path, "out", config=missing)
    assert (code, "Traceback" in errors) == (3, False)
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").write_text("mine")
    assert (await export(tmp_path, "file"))[0] == 2
    assert (await export(tmp_path))[0] == 2
    assert (await export(tmp_path, "out", "--url", "ftp://x"))[0] == 2


@pytest.mark.parametrize("schema", ["CREATE TABLE other (id INTEGER)", "not SQL at all"])
async def test_a_database_of_something_else_is_refused(tmp_path: Path, schema: str) -> None:
    other = tmp_path / "other.db"
    if schema.startswith("CREATE"):
        with sqlite3.connect(other) as connection:
            connection.execute(schema)
    else:
        other.write_text(schema * 1000)
    code, _, errors = await export(tmp_path, "out", config=tables(other, free_port()))
    assert (code, "Traceback" in errors) == (3, False), errors
    assert not (tmp_path / "out").exists()
