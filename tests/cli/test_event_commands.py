"""`tentaculo events`, as a process against gateways that run."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import RawTestServer

from tests.support.databases import sqlite
from tests.support.gateway_process import ROOT, TOKEN, Running, clean_environment, running_gateway
from tests.support.waits import free_port

WAIT = 30.0


async def start(folder: Path, *arguments: str, token: str = TOKEN, output: int = PIPE) -> Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tentaculo", "events", *arguments),
        cwd=folder,
        env=clean_environment({"PYTHONPATH": str(ROOT), "TENTACULO_TOKEN": token, "PYTHONUNBUFFERED": "1"}),
        stdout=output,
        stderr=PIPE,
    )


async def ends_quietly(process: Process) -> None:
    _, errors = await asyncio.wait_for(process.communicate(), WAIT)
    assert errors == b""
    assert process.returncode == 1


async def stopped(process: Process) -> None:
    if process.returncode is None:
        process.kill()
        await process.wait()


async def run(folder: Path, *arguments: str, token: str = TOKEN) -> tuple[int | None, list[str], str]:
    process = await start(folder, *arguments, token=token)
    output, errors = await asyncio.wait_for(process.communicate(), WAIT)
    return process.returncode, output.decode().splitlines(), errors.decode()


async def ingest(gateway: Running, **members: Any) -> int:
    body = {"source": "me", "type": "t", "payload": {}, **members}
    async with (
        ClientSession(headers=gateway.headers) as client,
        client.post(f"{gateway.url}/events/ingest", json=body) as response,
    ):
        assert response.status == 201
        id_: int = (await response.json())["id"]
        return id_


@asynccontextmanager
async def serving(file: Path, port: int) -> AsyncIterator[Running]:
    tables = {"server": {"port": port}, "database": {"url": sqlite(file), "auto_upgrade": False}}
    async with running_gateway(tables) as gateway:
        yield gateway


async def test_stored_events_are_shown_the_oldest_first(file: Path, tmp_path: Path) -> None:
    async with serving(file, 0) as gateway:
        for number in range(5):
            await ingest(gateway, type=f"t{number % 2}", payload={"n": number, "text": "\x1b[2J\u202e"})
        at = ("--url", gateway.url)
        code, lines, _ = await run(tmp_path, *at, "--source", "me")
        assert (code, len(lines)) == (0, 5)
        assert not [line for line in lines if not line.isprintable()]
        assert lines[0].split("  ")[1:] == ["me", "t0", '{"n": 0, "text": "\\u001b[2J"}']
        code, lines, _ = await run(tmp_path, *at, "--source", "me", "--limit", "2", "--type", "t0", "--json")
        assert [json.loads(line)["payload"]["n"] for line in lines] == [2, 4]
        code, lines, _ = await run(tmp_path, *at, "--source", "me", "--since", "1h", "--text", '"N":3')
        assert len(lines) == 1
        assert await run(tmp_path, *at, "--source", "me", "--since", "0s") == (0, [], "")
        code, lines, _ = await run(tmp_path, *at, "--source", "me", "--since", "99999d")
        assert (code, len(lines)) == (0, 5)
        code, _, errors = await run(tmp_path, *at, token="wrong-token-of-a-test")
        assert (code, "responds 403" in errors) == (2, True)
        code, _, errors = await run(tmp_path, *at, "--token", TOKEN, "--source", "x" * 300)
        assert (code, "source may have" in errors) == (2, True)


@pytest.mark.parametrize("url", ["ftp://x", "http://", "http://x:99999", "http://x?y", "http://[::1", "x"])
async def test_an_address_that_is_none_is_refused(tmp_path: Path, url: str) -> None:
    code, _, errors = await run(tmp_path, "--url", url)
    assert (code, url in errors) == (2, True)


async def test_a_token_that_no_header_can_have_is_refused(tmp_path: Path) -> None:
    code, _, errors = await run(tmp_path, "--url", "http://127.0.0.1:1", "--token", "secret\nX: y")
    assert (code, "the token must be visible ASCII characters only" in errors, "secret" in errors) == (2, True, False)


@pytest.mark.parametrize("body", ["<html>", "[]", "{}", '{"events": 1, "next": null}', '{"events": []}'])
async def test_what_responds_there_may_be_no_gateway(tmp_path: Path, body: str) -> None:
    async def respond(_request: web.BaseRequest) -> web.Response:
        return web.Response(text=body)

    async with RawTestServer(respond) as there:
        code, lines, errors = await run(tmp_path, "--url", str(there.make_url("/")))
    assert (code, lines) == (2, [])
    assert "is no gateway of this version" in errors


async def test_a_gateway_that_does_not_run_is_named(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "tentaculo.toml").write_text(f"[server]\nport = {port}\n")
    code, _, errors = await run(tmp_path)
    assert code == 3
    assert f"the gateway at http://127.0.0.1:{port} does not respond: Connection refused" in errors


async def test_follow_misses_nothing_over_a_restart(file: Path, tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "tentaculo.toml").write_text(f"[server]\nport = {port}\n")

    async def next_number(process: Process) -> int:
        assert process.stdout is not None
        number: int = json.loads(await asyncio.wait_for(process.stdout.readline(), WAIT))["payload"]["n"]
        return number

    async with serving(file, port) as gateway:
        await ingest(gateway, payload={"n": 0})
        process = await start(tmp_path, "--follow", "--json", "--source", "me")
        try:
            assert await next_number(process) == 0
            await ingest(gateway, payload={"n": 1})
            await ingest(gateway, source="other")
            assert await next_number(process) == 1
            await gateway.stop()
            async with serving(file, port) as again:
                for number in range(2, 20):
                    await ingest(again, payload={"n": number})
                assert [await next_number(process) for _ in range(2, 20)] == list(range(2, 20))
                process.send_signal(2)
                assert await asyncio.wait_for(process.wait(), WAIT) == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


@pytest.mark.parametrize("options", [(), ("--follow",)])
async def test_it_ends_as_soon_as_nobody_reads_its_output(file: Path, tmp_path: Path, options: tuple[str, ...]) -> None:
    async with serving(file, 0) as gateway:
        for _ in range(4):
            await ingest(gateway, payload={"text": "x" * 60_000})
        read, write = os.pipe()
        process = await start(tmp_path, "--url", gateway.url, "--source", "me", "--json", *options, output=write)
        os.close(write)
        try:
            # As `head` does, which has enough.
            assert await asyncio.to_thread(os.read, read, 10)
            os.close(read)
            await ends_quietly(process)
        finally:
            await stopped(process)


async def test_a_full_disk_is_named(file: Path, tmp_path: Path) -> None:
    async with serving(file, 0) as gateway:
        await ingest(gateway)
        with Path("/dev/full").open("wb") as full:
            process = await start(tmp_path, "--url", gateway.url, "--source", "me", output=full.fileno())
            _, errors = await asyncio.wait_for(process.communicate(), WAIT)
    assert errors.decode().startswith("Error: the output cannot be written: No space left on device\n")


async def test_follow_ends_at_the_next_event_when_nobody_reads_its_output(file: Path, tmp_path: Path) -> None:
    async with serving(file, 0) as gateway:
        await ingest(gateway)
        read, write = os.pipe()
        process = await start(tmp_path, "--url", gateway.url, "--source", "me", "--json", "--follow", output=write)
        os.close(write)
        try:
            assert await asyncio.to_thread(os.read, read, 10_000)
            os.close(read)
            await ingest(gateway)
            await ends_quietly(process)
        finally:
            await stopped(process)


async def test_follow_survives_a_restart_behind_a_proxy(file: Path, tmp_path: Path) -> None:
    answers = iter((502, 504))

    async with serving(file, 0) as gateway:

        async def relay(request: web.BaseRequest) -> web.StreamResponse:
            """As a proxy in front of the gateway: the stream is 502 and 504 while the gateway starts."""
            if request.path == "/events/stream" and (status := next(answers, None)) is not None:
                return web.Response(status=status, text="<html>Bad Gateway</html>")
            target, headers = f"{gateway.url}{request.path_qs}", {**gateway.headers, **position(request)}
            async with ClientSession() as client, client.get(target, headers=headers) as response:
                relayed = web.StreamResponse(status=response.status)
                await relayed.prepare(request)
                async for piece in response.content.iter_any():
                    await relayed.write(piece)
                return relayed

        def position(request: web.BaseRequest) -> dict[str, str]:
            return {name: value for name, value in request.headers.items() if name == "Last-Event-ID"}

        await ingest(gateway, payload={"n": 0})
        async with RawTestServer(relay) as proxy:
            process = await start(tmp_path, "--url", str(proxy.make_url("/")), "--source", "me", "--json", "--follow")
            try:
                assert process.stdout is not None
                assert json.loads(await asyncio.wait_for(process.stdout.readline(), WAIT))["payload"]["n"] == 0
                await ingest(gateway, payload={"n": 1})
                assert json.loads(await asyncio.wait_for(process.stdout.readline(), WAIT))["payload"]["n"] == 1
            finally:
                process.kill()
                await process.wait()
