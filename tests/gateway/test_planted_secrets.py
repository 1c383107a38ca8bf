"""A recognisable secret in every key that has one is in nothing that a whole gateway shows, sends or logs about itself."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from tentaculo.config.errors import KeyPath
from tentaculo.config.key_reference import ANY
from tentaculo.config.masking import is_masked, secret_keys
from tentaculo.security.tokens import hash_token
from tests.support.gateway_process import ROOT, Running, clean_environment, running_gateway, to_toml
from tests.support.postgresql import Server
from tests.support.waits import eventually, free_port

ADMIN = "a-token-of-an-administrator"
PLANTED = "pl4nted"
"""In every secret."""


def secret(name: str) -> str:
    return f"{PLANTED}-{name}"


def tables(database: str, nobody: int) -> dict[str, Any]:
    """A configuration with a secret in every key that has one. Nobody listens at the port `nobody`."""
    down = f"http://127.0.0.1:{nobody}"
    return {
        "database": {"url": database, "auto_upgrade": True},
        "log": {"level": "debug", "format": "json", "access": True},
        "auth": {
            "tokens": [
                {"name": "operator", "hash": hash_token(ADMIN), "scopes": ["admin", "status", "proxy", "events:read"]}
            ]
        },
        "alerts": {
            "wait": 0,
            "webhooks": {
                "hook": {
                    "url": f"{down}/{secret('path')}?key={secret('query')}",
                    "secrets": [whsec("first"), whsec("second")],
                }
            },
            "apprise": {"chat": f"json://{secret('user')}:{secret('password')}@127.0.0.1:{nobody}/{secret('apprise')}"},
        },
        "services": {
            "one": {
                "url": down,
                "token": secret("token"),
                "probe": {"interval": 1, "timeout": 1, "headers": {"X-Key": secret("probe")}},
                "routes": [
                    {
                        "prefix": "/one",
                        "auth": "none",
                        "set_headers": {"X-Key": secret("request")},
                        "set_response_headers": {"X-Served-By": secret("response")},
                    }
                ],
            },
        },
    }


def whsec(name: str) -> str:
    """A key of webhooks, which is base64."""
    return "whsec_" + base64.b64encode(secret(name).encode().ljust(30, b"=")).decode()


def places(value: Any, place: KeyPath = ()) -> Iterator[KeyPath]:
    """The places of the texts in secret keys."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in items:
        yield from places(inner, (*place, name))
    if isinstance(value, str) and is_masked(place):
        yield place


def key_of(place: KeyPath) -> tuple[str, ...]:
    """The secret key that a place belongs to."""
    return next(
        key for key in secret_keys() if all(part in (ANY, given) for part, given in zip(key, place, strict=False))
    )


MARKS = [PLANTED.encode(), *(whsec(name)[6:18].encode() for name in ("first", "second"))]


def planted_in(shown: bytes) -> list[bytes]:
    """The places where a secret is shown."""
    return [
        shown[max(match.start() - 80, 0) : match.end() + 40]
        for mark in MARKS
        for match in re.finditer(re.escape(mark), shown)
    ]


@dataclass
class Planted:
    """A gateway whose configuration is full of secrets."""

    running: Running
    session: ClientSession
    tables: dict[str, Any]
    environ: dict[str, str]

    async def ask(self, method: str, path: str, *, token: str = ADMIN, **fields: str) -> tuple[int, bytes]:
        """A response, its head included but for what a route sets there."""
        headers = {"If-Match": "*", **({"X-VX11-Token": token} if token else {}), **fields}
        async with self.session.request(
            method, self.running.url + path, headers=headers, allow_redirects=False
        ) as response:
            head = {name: value for name, value in response.headers.items() if name != "X-Served-By"}
            return response.status, f"{head}".encode() + await response.read()

    async def command(self, *words: str, **environ: str) -> tuple[int | None, bytes]:
        """What a command prints."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tentaculo", *words),
            cwd=self.running.folder,
            env={**self.environ, **environ},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        printed, _ = await process.communicate()
        return process.returncode, printed

    def write(self, tables: Mapping[str, Any]) -> None:
        text = "".join(f"{key} = {to_toml(table)}\n" for key, table in tables.items())
        (self.running.folder / "gateway.toml").write_text(text)


@pytest.fixture
async def planted(postgresql: Server) -> AsyncIterator[Planted]:
    with postgresql.database() as url:
        nobody = free_port()
        # The server asks for no password, and takes any.
        found = tables(url.replace("tests@", f"tests:{secret('database')}@"), nobody)
        environ = {"TENTACULO_TOKEN": secret("plain"), "TENTACULO_SERVICE_TOKEN": secret("fleet")}
        async with running_gateway(found, environ) as running, ClientSession() as session:
            given = clean_environment({"PYTHONPATH": str(ROOT), **environ})
            found["server"] = {"host": "127.0.0.1", "port": 0}
            yield Planted(running, session, found, given)


async def paths(planted: Planted) -> list[str]:
    """Every path that may be read, of the gateway itself and of its service."""
    _, document = await planted.ask("GET", "/tentaculo/openapi.json")
    described = json.loads(document[document.index(b'{"') :])["paths"]
    read = [path for path, methods in described.items() if "get" in methods and path not in ("/ws", "/events/stream")]
    filled = [re.sub(r"\{[^}]*\}", lambda match: "1" if match[0] == "{id}" else "one", path) for path in read]
    return [*filled, "/one/x", "/one/health", "/nothing/here", "/status/services/one?range=24h"]


async def test_nothing_that_is_shown_sent_or_logged_has_a_secret(planted: Planted) -> None:
    assert {key_of(place) for place in places(planted.tables)} == secret_keys(), (
        "a new secret key has to be planted here"
    )
    channels = {"hook", "chat"}
    await eventually(lambda: channels == {entry["channel"] for entry in planted.running.logged("alert not sent yet")})
    shown: dict[str, bytes] = {}
    for fields in (
        {"X-VX11-Token": secret("sent")},
        {"Authorization": f"Bearer {secret('sent')}"},
        {"Cookie": f"session={secret('sent')}"},
    ):
        for path in ("/one/x", "/status", f"/ws?ticket={secret('ticket')}", f"/one/x?token={secret('query')}"):
            await planted.ask("GET", path, token="", **fields)
    for path in await paths(planted):
        for token, accept in (
            (ADMIN, "text/html"),
            (ADMIN, "application/json"),
            ("", "text/html"),
            ("wrong", "application/json"),
        ):
            _, shown[f"{path} {token} {accept}"] = await planted.ask("GET", path, token=token, Accept=accept)
    file = ("-c", str(planted.running.folder / "gateway.toml"))
    for words in (
        ("check",),
        ("config", "show"),
        ("config", "show", "--from", "--all"),
        ("config", "show", "--json"),
        ("config", "diff"),
        ("config", "export"),
        ("token", "list"),
    ):
        code, shown[" ".join(words)] = await planted.command(*words, *file)
        assert code == 0, shown[" ".join(words)]
    away = f"postgresql://{secret('user')}:{secret('password')}@127.0.0.1:{free_port()}/{secret('name')}"
    for words in (("db", "upgrade"), ("incidents",), ("alerts", "test")):
        _, shown[f"{words} {away}"] = await planted.command(*words, *file, TENTACULO_DATABASE_URL=away)
    for name, text in shown.items():
        assert planted_in(text) == [], name
    assert planted_in(Path(f"/proc/{planted.running.process.pid}/cmdline").read_bytes()) == []
    assert planted_in(planted.running.output.read_bytes()) == []


def replaced(tables: Mapping[str, Any], place: KeyPath, value: Any) -> dict[str, Any]:
    """A copy of a configuration with another value at `place`."""
    copy = json.loads(json.dumps(tables))
    table: Any = copy
    for part in place[:-1]:
        table = table[part]
    table[place[-1]] = value
    return dict(copy)


WRONG = (f"ftp://{PLANTED}:{PLANTED}@/\x01", f"{PLANTED} ñ\n", [PLANTED], {PLANTED: PLANTED}, {"url": PLANTED})


ENVIRONMENT = (
    ("TENTACULO_SERVICES_ONE_TOKEN", f"{PLANTED} with a blank"),
    ("TENTACULO_SERVICE_TOKEN", f"{PLANTED} with a blank"),
    ("TENTACULO_TOKEN", f"{PLANTED} with a blank"),
    ("TENTACULO_DATABASE_URL", f"nothing://{PLANTED}:{PLANTED}@{PLANTED}/"),
    ("TENTACULO_ALERTS_APPRISE", json.dumps({"chat": f"nothing {PLANTED}"})),
    ("TENTACULO_ALERTS_APPRISE", f"{{no JSON {PLANTED}"),
    ("TENTACULO_AUTH_TOKENS", json.dumps([PLANTED])),
)


async def test_no_fault_has_the_secret_that_it_is_about(planted: Planted) -> None:
    wrong = [(place, value) for place in places(planted.tables) for value in WRONG]
    assert len(wrong) > 40
    rejected = 0
    for place, value in wrong:
        planted.write(replaced(planted.tables, place, value))
        status, text = await planted.ask("POST", "/tentaculo/admin/reload")
        assert status in (200, 422), text
        rejected += status == 422
        assert planted_in(text) == [], (place, value)
    assert rejected > len(wrong) / 2
    for name, value in ENVIRONMENT:
        code, printed = await planted.command("check", "-c", "gateway.toml", **{name: value})
        assert code == 1, printed
        assert planted_in(printed) == [], name
    for path in ("/tentaculo/admin/reload", "/status", "/events?type=gateway.configuration.rejected"):
        _, text = await planted.ask("GET", path)
        assert planted_in(text) == [], path
    assert planted_in(planted.running.output.read_bytes()) == []
