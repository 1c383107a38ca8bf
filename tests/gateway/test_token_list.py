"""`GET /tentaculo/admin/tokens`: what an administrator sees of the accepted tokens."""

from __future__ import annotations

import json
from pathlib import Path

from tentaculo.security.tokens import hash_token
from tentaculo.store import migrate
from tests.conftest import Start
from tests.gateway.test_tokens import ask, by, token
from tests.support.databases import sqlite

PATH = "/tentaculo/admin/tokens"


async def test_every_token_is_listed_with_its_last_use_and_without_its_hash(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "fleet.db"
    migrate.upgrade(sqlite(file))
    ended = {**token("ended", "status"), "expires": "2020-01-01T00:00:00Z"}
    tokens = [token("root", "admin"), token("sees", "status"), ended]
    live = await start({}, database={"url": sqlite(file)}, auth={"tokens": tokens})
    assert (await ask(live, "/vx11/overview", by("sees"))).status == 200
    assert (await ask(live, PATH, by("sees"))).status == 403
    assert (await ask(live, PATH)).status == 401
    response = await ask(live, PATH, by("root"))
    assert (response.status, response.get("cache-control")) == (200, "no-store")
    rows = {row["name"]: row for row in json.loads(response.body)["tokens"]}
    assert rows["sees"]["scopes"] == ["status"]
    assert rows["sees"]["last_used_at"].endswith("Z")
    assert (rows["ended"]["expired"], rows["ended"]["last_used_at"]) == (True, None)
    assert rows["ended"]["expires"] == "2020-01-01T00:00:00Z"
    for name in ("root", "sees", "ended"):
        assert hash_token(name).removeprefix("sha256:").encode() not in response.body


async def test_without_tokens_nobody_sees_the_list(start: Start) -> None:
    live = await start({}, auth={"enabled": False})
    assert (await ask(live, PATH)).status == 403
