"""Attacks on the write API: callers without the right, pages of other origins, forms, large bodies, and hunts for secrets."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from tentaculo.security.tokens import hash_token
from tentaculo.web import admin
from tests.gateway.test_sign_in import Browser
from tests.support.databases import sqlite
from tests.support.layered_gateway import ADMIN, LayeredGateway, layered_gateway, write_tables
from tests.support.wire import Response

SECRET = "s3cr3t-that-nobody-may-see"
OTHERS = ["proxy", "status", "incidents:write", "events:read", "events:write"]
READS = ("GET", "HEAD")
ROUTES = [
    ("POST", "/tentaculo/admin/reload"),
    *(
        (route.method, route.path.format(name="one", number="0"))
        for route in admin.routes(cast(Any, None), str, lambda request: None)
    ),
]
SERVICE = {"url": "http://127.0.0.1:9", "routes": [{"prefix": "/two"}]}


@pytest.fixture
async def live(tmp_path: Path, file: Path) -> AsyncIterator[LayeredGateway]:
    accepted = [
        {"name": "operator", "hash": hash_token(ADMIN), "scopes": ["admin", "status", "events:read"]},
        {"name": "others", "hash": hash_token("others"), "scopes": OTHERS},
        {"name": "plain", "hash": hash_token("plain")},
    ]
    one = {"url": "http://127.0.0.1:9", "token": SECRET, "routes": [{"prefix": "/one"}, {"prefix": "/more"}]}
    configuration = tmp_path / "tentaculo.toml"
    write_tables(
        configuration,
        {
            "server": {"port": 0, "grace": 1},
            "database": {"url": sqlite(file)},
            "auth": {"tokens": accepted},
            "services": {"one": one},
        },
    )
    async with layered_gateway(configuration) as found:
        yield found


async def attack(live: LayeredGateway, method: str, path: str, body: bytes | None = None, **fields: str) -> Response:
    """Send what would be accepted of an administrator, but for `fields`; an empty one is not sent."""
    usual = {"X-VX11-Token": ADMIN, "If-Match": "*", "Content-Type": "application/json"}
    given = {**usual, **{name.replace("_", "-"): value for name, value in fields.items()}}
    return await live.send(method, path, {name: value for name, value in given.items() if value}, body)


async def revision(live: LayeredGateway) -> tuple[int, Mapping[str, Any]]:
    """Which change is the last, and the services."""
    _, shown = await live.administer("GET", "/config")
    return shown["revision"], shown["config"]["services"]


async def test_each_path_needs_the_scope(live: LayeredGateway) -> None:
    before = await revision(live)
    for method, path in ROUTES:
        body = b"{}" if method in ("PUT", "PATCH", "POST") else None
        assert (await attack(live, method, path, body, X_VX11_Token="")).status == 401
        assert (await attack(live, method, path, body, X_VX11_Token="wrong")).status == 403
        for token in ("others", "plain"):
            refused = await attack(live, method, path, body, X_VX11_Token=token)
            found = json.loads(refused.body)
            assert (refused.status, found["error"], found["scope"]) == (403, "forbidden", "admin"), (method, path)
    assert await revision(live) == before


async def test_a_session_never_opens_it(live: LayeredGateway) -> None:
    """Every page that a browser has open could use the session: a token in a header is what only a program sends."""
    before, browser = await revision(live), Browser(live.port)
    assert (await browser.sign_in(ADMIN)).status == 303
    assert (await browser.ask("/status")).status == 200
    cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    for method, path in ROUTES:
        refused = await attack(live, method, path, b"{}", X_VX11_Token="", Cookie=cookie)
        assert refused.status == 401, (method, path, refused.body)
    assert await revision(live) == before


@pytest.mark.thorough
@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost.evil.example"])
async def test_the_page_of_another_origin_changes_nothing(live: LayeredGateway, origin: str) -> None:
    before = await revision(live)
    for method, path in ROUTES:
        if method in READS:
            continue
        refused = await attack(live, method, path, b"{}", Origin=origin)
        assert (refused.status, json.loads(refused.body)["error"]) == (403, "origin_denied"), (method, path)
        assert refused.get("Access-Control-Allow-Origin") is None
    assert await revision(live) == before


@pytest.mark.thorough
@pytest.mark.parametrize(
    "media_type",
    ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/json"],
)
async def test_what_a_form_can_send_is_refused(live: LayeredGateway, media_type: str) -> None:
    before = await revision(live)
    for method, path in ROUTES:
        if method in READS or method == "DELETE" or path.endswith(("/reload", "/undo")):
            continue  # these have no body; a page of another origin is refused by its Origin
        refused = await attack(live, method, path, json.dumps(SERVICE).encode(), Content_Type=media_type)
        assert refused.status == 415, (method, path, refused.body)
    assert await revision(live) == before


@pytest.mark.parametrize("field", ["X_HTTP_Method_Override", "X_HTTP_Method", "X_Method_Override"])
async def test_a_field_does_not_make_another_method_of_a_request(live: LayeredGateway, field: str) -> None:
    before = await revision(live)
    path = "/tentaculo/admin/services/one"
    fields: dict[str, Any] = {field: "DELETE"}
    assert (await attack(live, "GET", path, **fields)).status == 200
    assert (await attack(live, "POST", path, b"{}", **fields)).status == 405
    assert (await attack(live, "GET", f"{path}?_method=DELETE")).status == 200
    assert await revision(live) == before


async def test_a_body_of_ten_megabytes_is_refused(live: LayeredGateway) -> None:
    before = await revision(live)
    body = b'{"about": "' + b"x" * 10_000_000 + b'"}'
    head = f"PUT /tentaculo/admin/services/one HTTP/1.1\r\nHost: localhost\r\nX-VX11-Token: {ADMIN}\r\nIf-Match: *\r\n"
    fields = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", live.port)
    try:
        writer.write(f"{head}{fields}".encode())
        async with asyncio.timeout(20):
            assert (await reader.readline()).split(b" ")[1] == b"413", "it is refused before it is sent"
    finally:
        writer.close()
    assert await revision(live) == before


SENT: list[tuple[str, str, Any]] = [
    ("PATCH", "/services/one", {"token": f"{SECRET}-2"}),
    ("PATCH", "/services/one", {"token": f"{SECRET} with a space"}),
    ("PATCH", "/services/one", {"token": [SECRET]}),
    ("PATCH", "/services/one", {"token": f"{SECRET}-3", "url": "ftp://h", "unheard_of": 1}),
    ("PATCH", "/services/one", {"url": f"http://user:{SECRET}@127.0.0.1:9"}),
    ("PUT", "/services/two", {**SERVICE, "token": f"{SECRET}\x01"}),
    ("PUT", "/services/one/routes", [{"prefix": "/one", "set_headers": {"X-Key": SECRET}}]),
    ("PUT", "/services/one/routes", [{"prefix": "/one", "set_headers": {"X-Key": f"{SECRET}\n"}}]),
    ("PUT", "/services/one/endpoints", [{"url": f"ftp://user:{SECRET}@h"}]),
    ("PUT", "/alerts/webhooks/hook", {"url": f"https://hooks.example/{SECRET}"}),
    ("PUT", "/alerts/webhooks/hook", {"url": f"https://hooks.example/{SECRET}", "secrets": [SECRET]}),
    ("PUT", "/alerts/webhooks/hook", {"url": f"ftp://hooks.example/{SECRET}"}),
    ("PUT", "/alerts/apprise/hook", {"url": f"json://user:{SECRET}@hooks.example"}),
    ("PUT", "/alerts/apprise/hook", {"url": f"{SECRET}"}),
]


async def test_secrets_are_in_no_response_no_line_of_the_log_and_no_event(
    live: LayeredGateway, capfd: pytest.CaptureFixture[str]
) -> None:
    statuses: set[int] = set()
    for method, path, body in SENT:
        status, found = await live.administer(method, path, body)
        statuses.add(status)
        assert SECRET not in json.dumps(found), (method, path, body)
        for target in ("/config", "/services/one", "/services/two"):
            _, shown = await live.administer("GET", target)
            assert SECRET not in json.dumps(shown), (method, path, body)
    assert statuses == {200, 422}
    kept = (live.file.parent / "data" / "changes.json").read_text()
    assert SECRET in kept, "there was something to see"
    async with asyncio.timeout(20):
        while True:
            events = await attack(live, "GET", "/events?type=gateway.configuration.changed")
            if events.status == 200 and json.loads(events.body)["events"]:
                break
            await asyncio.sleep(0.01)
    assert SECRET not in events.body.decode()
    printed = capfd.readouterr()
    assert "configuration reloaded" in printed.out + printed.err
    assert SECRET not in printed.out + printed.err


async def test_the_file_is_its_owners_alone_at_every_moment(
    live: LayeredGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    folder, replace = live.file.parent / "data", os.replace

    def looking(source: Any, target: Any) -> None:
        seen.extend(stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir())
        replace(source, target)
        seen.extend(stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir())

    monkeypatch.setattr(os, "replace", looking)
    before = os.umask(0)
    try:
        for about in ("first", "second"):
            assert (await live.administer("PATCH", "/services/one", {"about": about}))[0] == 200
    finally:
        os.umask(before)
    assert len(seen) >= 8
    assert set(seen) == {0o600}
