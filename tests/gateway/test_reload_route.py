"""Reloads of gateways as an operator runs them: by request, signal, command and by themselves, with one process and with two."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import ClientSession

from tentaculo.security.tokens import hash_token
from tests.support.gateway_process import ROOT, TOKEN, Running, clean_environment, running_gateway, to_toml
from tests.support.service_manager import service_manager
from tests.support.waits import eventually
from tests.support.wire import answering, ok, upstream

PATH = "/tentaculo/admin/reload"
ADMIN = "a-token-of-an-administrator"
WORKERS = pytest.mark.parametrize("workers", [1, 2])


class Reloaded:
    """A gateway whose file the test changes."""

    def __init__(self, running: Running, tables: Mapping[str, Any], session: ClientSession) -> None:
        self.running = running
        self.session = session
        self.file = running.folder / "gateway.toml"
        self.tables = dict(tables)

    def write(self, **tables: Any) -> None:
        """Replace tables of the file, in one step."""
        self.tables |= tables
        new = self.file.with_suffix(".new")
        new.write_text("".join(f"{key} = {to_toml(table)}\n" for key, table in self.tables.items()))
        os.replace(new, self.file)

    async def reload(self) -> tuple[int, dict[str, Any]]:
        async with self.session.post(PATH) as response:
            return response.status, await response.json(content_type=None)

    async def get(self, path: str, **headers: str) -> int:
        """The status of a request on a connection of its own, which any of the workers may accept."""
        async with ClientSession(self.running.url) as session, session.get(path, headers=headers) as response:
            return response.status

    async def metrics(self) -> dict[str, float]:
        async with self.session.get("/metrics") as response:
            lines = (await response.text()).splitlines()
        return {line.partition("{")[0].split(" ")[0]: float(line.split(" ")[-1]) for line in lines if line[:1] != "#"}

    async def events(self, type_: str) -> list[dict[str, Any]]:
        async with self.session.get("/events", params={"type": f"gateway.configuration.{type_}"}) as response:
            return [event["payload"] for event in (await response.json())["events"]]


def service(port: int, **more: Any) -> dict[str, Any]:
    return {"url": f"http://127.0.0.1:{port}", "probe": {"interval": 3600, "kind": "tcp"}, **more}


def routed(port: int, prefix: str, **more: Any) -> dict[str, Any]:
    return service(port, routes=[{"prefix": prefix}], **more)


def admin_tokens(token: str) -> list[Any]:
    scopes = ["admin", "proxy", "status", "events:read"]
    return [{"hash": hash_token(token), "name": "operator", "scopes": scopes}]


@asynccontextmanager
async def reloaded(
    workers: int, tables: Mapping[str, Any], env: Mapping[str, str] | None = None
) -> AsyncIterator[Reloaded]:
    tables = {
        "server": {"host": "127.0.0.1", "port": 0, "workers": workers, "grace": 1},
        "auth": {"tokens": admin_tokens(ADMIN)},
        **tables,
    }
    headers = {"X-VX11-Token": ADMIN}
    async with running_gateway(tables, env) as running, ClientSession(running.url, headers=headers) as session:
        yield Reloaded(running, tables, session)


@WORKERS
async def test_a_service_is_added_and_removed_by_request(workers: int) -> None:
    async with (
        upstream(answering(ok(b"here"))) as up,
        reloaded(workers, {"services": {"one": routed(up.port, "/one")}}) as gateway,
    ):
        assert await gateway.get("/two/x", **gateway.running.headers) == 404
        gateway.write(services={"one": routed(up.port, "/one"), "two": routed(up.port, "/two")}, limits={"body": 7})
        status, body = await gateway.reload()
        assert (status, body["generation"], body["by"]) == (200, 2, "token operator")
        assert (body["added"], body["removed"], body["changed"], body["kept"]) == (["two"], [], [], ["one"])
        assert (body["changed_keys"], body["needs_restart"], body["warnings"][1:]) == (["limits.body"], [], [])
        # Every worker serves it, whichever accepts.
        for _ in range(10):
            assert await gateway.get("/two/x", **gateway.running.headers) == 200
        gateway.write(services={"two": routed(up.port, "/two")}, server={**gateway.tables["server"], "port": 9})
        status, body = await gateway.reload()
        assert (status, body["removed"], [one["key"] for one in body["needs_restart"]]) == (
            200,
            ["one"],
            ["server.port"],
        )
        for _ in range(10):
            assert await gateway.get("/one/x", **gateway.running.headers) == 404
        found = await gateway.metrics()
        assert found["tentaculo_config_generation"] == 3
        assert found["tentaculo_config_last_reload_successful"] == 1


@WORKERS
async def test_faults_change_nothing_and_are_reported_everywhere(workers: int) -> None:
    async with (
        upstream(answering(ok(b"here"))) as up,
        reloaded(workers, {"services": {"one": routed(up.port, "/one")}}) as gateway,
    ):
        gateway.write(services={"one": {"url": "ftp://secret-host", "prefx": 1}, "two": service(1, depends_on=["x"])})
        status, body = await gateway.reload()
        assert (status, body["error"], body["generation"]) == (422, "configuration_rejected", 1)
        faults = [f"{fault['path']}: {fault['message']}" for fault in body["faults"]]
        check = await run(gateway.running, "check")
        assert faults == check[1].splitlines()
        assert {fault.split(":")[0] for fault in faults} == {
            *("services.one.prefx", "services.one.url", "services.two.depends_on[0]")
        }
        async with gateway.session.get(PATH) as response:
            shown = await response.json()
        assert (shown["generation"], shown["by"], shown["last_reload"]["by"]) == (1, "start", "token operator")
        assert (shown["last_reload"]["accepted"], shown["last_reload"]["faults"]) == (False, body["faults"])
        assert shown["at"] < shown["last_reload"]["at"]
        assert await gateway.get(PATH, **gateway.running.headers) == 403
        async with gateway.session.get("/status", headers={"Accept": "text/html"}) as response:
            assert "services.one.prefx" in await response.text()
        assert await gateway.get("/one/x", **gateway.running.headers) == 200
        (line,) = gateway.running.logged("configuration rejected")
        assert (line["level"], line["faults"]) == ("error", faults)
        await eventually_async(lambda: gateway.events("rejected"), 1)
        (event,) = await gateway.events("rejected")
        assert (event["faults"], event["generation"]) == (faults, 1)
        assert "secret-host" not in gateway.running.output.read_text() + json.dumps(event)
        found = await gateway.metrics()
        assert found["tentaculo_config_generation"] == 1
        assert found["tentaculo_config_last_reload_successful"] == 0


async def eventually_async(ask: Any, count: int) -> None:
    """Wait until what `ask` awaits has `count` members."""
    async with asyncio.timeout(20):
        while len(await ask()) != count:
            await asyncio.sleep(0.02)


async def run(gateway: Running, *command: str, **environ: str) -> tuple[int, str, str]:
    """A command with the configuration of a gateway."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tentaculo", *command, "-c", str(gateway.folder / "gateway.toml")),
        env=clean_environment({"PYTHONPATH": str(ROOT), "TENTACULO_TOKEN": TOKEN} | environ),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


@WORKERS
async def test_a_hangup_reloads_and_cuts_nothing(workers: int) -> None:
    with service_manager() as manager:
        environ = {"NOTIFY_SOCKET": manager.address}
        async with (
            upstream(answering(ok(b"here"))) as up,
            reloaded(workers, {"services": {"one": routed(up.port, "/one")}}, environ) as gateway,
            gateway.session.ws_connect("/ws") as socket,
        ):
            gateway.write(services={"one": routed(up.port, "/one"), "two": routed(up.port, "/two")})
            gateway.running.process.send_signal(signal.SIGHUP)
            await eventually(lambda: manager.states == ["READY", "RELOADING", "READY"])
            assert manager.reports[-1]["STATUS"] == "serves generation 2 of the configuration"
            assert await gateway.get("/two/x", **gateway.running.headers) == 200
            await eventually(
                lambda: {line["by"] for line in gateway.running.logged("configuration reloaded")} == {"SIGHUP"}
            )
            await socket.ping()
            assert not socket.closed
            gateway.write(services={"one": {"url": "ftp://x"}})
            gateway.running.process.send_signal(signal.SIGHUP)
            await eventually(lambda: len(manager.states) == 5)
            assert "the configuration has 1 fault" in manager.reports[-1]["STATUS"]
            assert gateway.running.process.returncode is None
            assert not socket.closed
            assert await gateway.running.stop() == 0
        assert manager.states[-1] == "STOPPING"


@WORKERS
async def test_a_token_that_is_gone_is_refused_at_once(workers: int) -> None:
    async with (
        upstream(answering(ok(b"here"))) as up,
        reloaded(workers, {"services": {"one": routed(up.port, "/one")}}) as gateway,
    ):
        tokens = gateway.running.folder / "data" / "token"
        tokens.parent.mkdir(exist_ok=True)
        tokens.write_text(hash_token("old-token") + "\n")
        assert (await gateway.reload())[0] == 200
        headers = {"X-VX11-Token": "old-token"}
        async with ClientSession(gateway.running.url, headers=headers) as kept:

            async def ask() -> int:
                async with kept.get("/one/x") as response:
                    return response.status

            assert [await ask() for _ in range(3)] == [200, 200, 200]
            tokens.write_text(hash_token("new-token") + "\n")
            status, body = await gateway.reload()
            # The look at the file of tokens, once a second, may have come before.
            assert (status, body["changed_keys"] or ["auth.tokens"]) == (200, ["auth.tokens"])
            assert await ask() == 403, "on the connection that is open"
        for _ in range(5):
            assert await gateway.get("/one/x", **{"X-VX11-Token": "new-token"}) == 200


@WORKERS
async def test_the_command_prints_what_became_of_it(workers: int) -> None:
    async with reloaded(workers, {"services": {"one": service(1)}}) as gateway:
        gateway.write(services={"one": service(1), "two": service(2)})
        url = ("--url", gateway.running.url)
        code, out, err = await run(gateway.running, "reload", *url, TENTACULO_TOKEN=ADMIN)
        assert (code, err) == (0, "")
        assert out.splitlines()[:3] == [
            *("The gateway serves generation 2 of its configuration.", "  added    two", "  kept     1 service")
        ]
        gateway.write(services={"one": {"url": "ftp://x"}})
        code, out, err = await run(gateway.running, "reload", *url, TENTACULO_TOKEN=ADMIN)
        assert (code, err) == (1, "")
        assert out.splitlines()[0].startswith("services.one.url: must ")
        assert out.splitlines()[-1] == "Nothing was changed, since the configuration has 1 fault."
        code, out, err = await run(gateway.running, "reload", *url, TENTACULO_TOKEN="wrong")
        assert (code, out) == (2, "")
        assert "does not have the scope admin" in err


@WORKERS
async def test_it_reloads_by_itself_where_asked_to(workers: int) -> None:
    tables = {"reload": {"watch": True}, "services": {"one": service(1)}}
    async with upstream(answering(ok(b"here"))) as up, reloaded(workers, tables) as gateway:
        gateway.write(services={"one": routed(up.port, "/one")})
        await eventually(lambda: len(gateway.running.logged("configuration reloaded")) == workers)
        assert {line["by"] for line in gateway.running.logged("configuration reloaded")} == {"file change"}
        assert await gateway.get("/one/x", **gateway.running.headers) == 200
        # Another kind of change: a file that it names.
        tokens = gateway.running.folder / "data" / "token"
        tokens.parent.mkdir(exist_ok=True)
        tokens.write_text(hash_token("another-token") + "\n")
        await eventually(lambda: len(gateway.running.logged("configuration reloaded")) == 2 * workers)
        assert await gateway.get("/one/x", **{"X-VX11-Token": "another-token"}) == 200


async def test_a_worker_that_is_started_later_serves_what_was_accepted_not_the_file() -> None:
    async with (
        upstream(answering(ok(b"here"))) as up,
        reloaded(2, {"services": {"one": routed(up.port, "/one")}}) as gateway,
    ):
        gateway.write(services={"two": routed(up.port, "/two")})
        assert (await gateway.reload())[0] == 200
        gateway.write(services={"three": routed(up.port, "/three")})
        started = {line["worker"]: line["pid"] for line in gateway.running.logged("worker started")}
        for pid in started.values():
            os.kill(pid, signal.SIGKILL)
        await eventually(lambda: len(gateway.running.logged("worker ready")) == 4)
        for _ in range(5):
            assert await gateway.get("/two/x", **gateway.running.headers) == 200
            assert await gateway.get("/three/x", **gateway.running.headers) == 404
            assert await gateway.get("/one/x", **gateway.running.headers) == 404
        found = await gateway.metrics()
        assert found["tentaculo_config_generation"] == 2


@WORKERS
async def test_who_may_reload(workers: int) -> None:
    async with reloaded(workers, {"services": {"one": service(1)}}) as gateway:
        async with ClientSession(gateway.running.url) as nobody:
            async with nobody.post(PATH) as response:
                assert response.status == 401
            async with nobody.post(PATH, headers={"X-VX11-Token": "wrong"}) as response:
                assert response.status == 403
            async with nobody.get(PATH) as response:
                assert response.status == 401
            async with nobody.get(PATH, headers=gateway.running.headers) as response:
                assert response.status == 403, "a token without the scope"
            async with nobody.get(PATH, headers={"X-VX11-Token": ADMIN}) as response:
                assert response.status == 200
            async with nobody.put(PATH, headers={"X-VX11-Token": ADMIN}) as response:
                assert response.status == 405
            foreign = {"X-VX11-Token": ADMIN, "Origin": "http://elsewhere.example"}
            async with nobody.post(PATH, headers=foreign) as response:
                assert (response.status, (await response.json())["error"]) == (403, "origin_denied")
        assert gateway.running.logged("configuration reloaded") == []
        gateway.write(auth={"enabled": False})
        assert (await gateway.reload())[0] == 200
        async with ClientSession(gateway.running.url) as nobody, nobody.post(PATH) as response:
            assert response.status == 403, "without tokens, anybody could"
