"""The write API of whole gateways: with one process and with two, over restarts, and among reloads and requests."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiohttp import ClientSession

from tests.gateway.test_reload_route import ADMIN, WORKERS, admin_tokens
from tests.support.gateway_process import TOKEN, Running, running_gateway
from tests.support.waits import eventually
from tests.support.wire import answering, ok, upstream

BASE = "/tentaculo/admin"


class Administered:
    """A running gateway, and a client with the scope `admin`."""

    def __init__(self, running: Running, session: ClientSession) -> None:
        self.running = running
        self.session = session

    async def send(
        self, method: str, path: str, body: Any = None, status: int = 200, headers: Mapping[str, str] = {}
    ) -> Any:
        """Send a request of the write API on a connection of its own: any worker may accept it."""
        given = {"X-VX11-Token": ADMIN, "If-Match": "*", "Content-Type": "application/json", **headers}
        data = None if body is None else json.dumps(body)
        async with (
            ClientSession(self.running.url) as session,
            session.request(method, BASE + path, data=data, headers=given) as response,
        ):
            text = await response.text()
            assert response.status == status, text
            return json.loads(text)

    async def get(self, path: str) -> tuple[int, str]:
        """The response to a request on a connection of its own."""
        headers = {"X-VX11-Token": TOKEN}
        async with ClientSession(self.running.url) as session, session.get(path, headers=headers) as response:
            return response.status, await response.text()

    async def event(self, action: str) -> dict[str, Any]:
        """The first change of this kind in the log of events, as soon as it is there."""
        params = {"type": "gateway.configuration.changed"}
        headers = {"X-VX11-Token": TOKEN}
        async with asyncio.timeout(20):
            while True:
                async with self.session.get("/events", params=params, headers=headers) as response:
                    found = (await response.json()).get("events", []) if response.status == 200 else []
                for event in found:
                    # One that a start records behind a stop that was too early for it has no action.
                    if event["payload"].get("action") == action:
                        payload: dict[str, Any] = event["payload"]
                        return payload
                await asyncio.sleep(0.05)


def service(port: int, prefix: str, **more: Any) -> dict[str, Any]:
    probe = {"interval": 3600, "kind": "tcp"}
    return {"url": f"http://127.0.0.1:{port}", "probe": probe, "routes": [{"prefix": prefix}], **more}


@asynccontextmanager
async def administered(
    services: Mapping[str, Any], folder: Path, *, workers: int = 1, env: Mapping[str, str] | None = None
) -> AsyncIterator[Administered]:
    tables = {
        "server": {"host": "127.0.0.1", "port": 0, "workers": workers, "grace": 1},
        "auth": {"tokens": admin_tokens(ADMIN)},
        "admin": {"changes_file": str(folder / "changes.json")},
        "services": services,
    }
    async with running_gateway(tables, env) as running, ClientSession(running.url) as session:
        yield Administered(running, session)


@WORKERS
async def test_a_service_that_is_added_is_reached_at_once_and_after_a_restart(tmp_path: Path, workers: int) -> None:
    async with upstream(answering(ok(b"new"))) as up:
        async with administered({"old": service(1, "/old")}, tmp_path, workers=workers) as gateway:
            assert (await gateway.get("/new"))[0] == 404
            made = await gateway.send("PUT", "/services/new", service(up.port, "/new"))
            assert made["changes"]["added"] == ["new"]
            for _ in range(2 * workers):
                assert await gateway.get("/new") == (200, "new")
            assert (await gateway.send("GET", "/config"))["generation"] == made["generation"]
        async with administered({"old": service(1, "/old")}, tmp_path, workers=workers) as gateway:
            assert await gateway.get("/new") == (200, "new")
            await gateway.send("DELETE", "/services/new")
            assert (await gateway.get("/new"))[0] == 404
            event = await gateway.event("remove")
            assert (event["subject"], event["keys"]) == ("services.new", ["services.new"])


@WORKERS
async def test_a_service_is_open_for_a_time_also_over_a_restart(tmp_path: Path, workers: int) -> None:
    async with upstream(answering(ok(b"shub"))) as up:
        shub = {"shub": service(up.port, "/shub", enabled_env="SHUB_ON")}
        async with administered(shub, tmp_path, workers=workers, env={"SHUB_ON": "no"}) as gateway:
            assert (await gateway.get("/shub"))[0] == 503
            refused = await gateway.send("POST", "/services/shub/enable", {}, 409)
            assert refused["variables"] == [{"key": "services.shub.enabled", "variable": "SHUB_ON"}]
            await gateway.send("POST", "/services/shub/enable", {"for": 20})
            assert await gateway.get("/shub") == (200, "shub")
            for page in ("/status", "/status/services/shub"):
                text = (await gateway.get(page))[1]
                assert "Switched on until <time" in text, page
        async with administered(shub, tmp_path, workers=workers, env={"SHUB_ON": "no"}) as gateway:
            assert await gateway.get("/shub") == (200, "shub")
            made = await gateway.send("POST", "/services/shub/enable", {"for": 1})
            assert made["changed"]
            async with asyncio.timeout(20):
                while (await gateway.get("/shub"))[0] != 503:
                    await asyncio.sleep(0.05)
            shown = await gateway.send("GET", "/services/shub")
            assert shown["override"] is None


@WORKERS
async def test_a_concurrent_change_is_refused_and_a_faulty_one_changes_nothing(tmp_path: Path, workers: int) -> None:
    async with administered({"old": service(1, "/old")}, tmp_path, workers=workers) as gateway:
        before = f'"{(await gateway.send("GET", "/config"))["generation"]}"'
        await gateway.send("PATCH", "/services/old", {"about": "first"}, headers={"If-Match": before})
        await gateway.send("PATCH", "/services/old", {"about": "second"}, 412, headers={"If-Match": before})
        faulty = {"url": "ftp://h", "depends_on": ["nobody"], "routes": [{"prefix": "/old"}]}
        refused = await gateway.send("PUT", "/services/new", faulty, 422)
        assert len(refused["faults"]) == 3
        shown = await gateway.send("GET", "/config")
        assert (shown["config"]["services"]["old"]["about"], shown["revision"]) == ("first", 1)
        await asyncio.gather(*(gateway.send("PUT", f"/services/n{n}", service(1, f"/n{n}")) for n in range(3)))
        services = (await gateway.send("GET", "/config"))["config"]["services"]
        assert {"n0", "n1", "n2"} <= set(services)


async def test_who_may_not_use_it(tmp_path: Path) -> None:
    async with administered({"old": service(1, "/old")}, tmp_path) as gateway:
        path = f"{BASE}/config"
        for headers, status in (
            ({}, 401),
            ({"X-VX11-Token": "wrong"}, 403),
            ({"X-VX11-Token": ADMIN}, 200),
        ):
            async with gateway.session.get(path, headers=headers) as response:
                assert response.status == status
        foreign = {"Origin": "https://evil.example"}
        refused = await gateway.send("DELETE", "/services/old", None, 403, headers=foreign)
        assert refused["error"] == "origin_denied"
        assert (await gateway.send("GET", "/services/old"))["name"] == "old"


async def test_a_start_with_a_faulty_file_of_changes_serves_the_configuration_file(tmp_path: Path) -> None:
    (tmp_path / "changes.json").write_text('{"changes": {"services": {"old": {"url": 3}}}}')
    async with administered({"old": service(1, "/old")}, tmp_path) as gateway:
        shown = await gateway.send("GET", "/config")
        assert shown["not_applied"] == [{"path": "services.old.url", "message": "must be text (set by a change)"}]
        assert "are not applied" in gateway.running.output.read_text()
        await gateway.send("DELETE", "/changes")
        assert (await gateway.send("GET", "/config"))["not_applied"] == []


async def test_the_time_of_an_override_is_shown_by_check(tmp_path: Path) -> None:
    async with administered({"old": service(1, "/old")}, tmp_path) as gateway:
        await gateway.send("POST", "/services/old/disable", {"for": "1h", "reason": "repair"})
        kept = json.loads((tmp_path / "changes.json").read_text())["overrides"]["old"]
        until = datetime.fromisoformat(kept["until"])
        assert 3500 < (until - datetime.now(UTC)).total_seconds() <= 3600
        status, text = await gateway.get("/old")
        assert status == 503
        assert "repair, until" in text
        await eventually(lambda: "old" in gateway.running.output.read_text())
