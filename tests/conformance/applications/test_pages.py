"""Applications with pages, WebSockets and event streams: JupyterLab, Streamlit, Gradio, Node-RED and Socket.IO."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, WSMsgType

from tests.conformance.applications.environment import (
    PROGRAMS,
    RUN_TIMEOUT,
    command,
    gateway_to,
    run_program,
    server,
)
from tests.support.gateway_process import Running, running_gateway

pytestmark = pytest.mark.timeout(2 * RUN_TIMEOUT)
HOST = "app.test"


@asynccontextmanager
async def _on_its_own_host(port: int) -> AsyncIterator[Running]:
    """A gateway whose host `HOST` belongs to the application."""
    table = {
        "url": f"http://127.0.0.1:{port}",
        "probe": {"kind": "tcp"},
        "routes": [{"prefix": "/", "host": HOST, "auth": "none"}],
    }
    async with running_gateway({"services": {"application": table}}) as gateway:
        yield gateway


async def _page(session: ClientSession, url: str, **headers: str) -> str:
    async with session.get(url, headers=headers) as response:
        assert response.status == 200, f"{url}: {response.status}"
        return await response.text()


async def _execute(session: ClientSession, base: str, headers: dict[str, str]) -> list[str]:
    """Start a kernel, run a program in it over its WebSocket, and return what the program printed."""
    async with session.post(f"{base}/api/kernels", json={"name": "python3"}, headers=headers) as response:
        assert response.status == 201, await response.text()
        kernel = (await response.json())["id"]
    channels = f"{base}/api/kernels/{kernel}/channels?session_id={uuid.uuid4().hex}"
    message = {
        "header": {"msg_id": "run", "msg_type": "execute_request", "username": "", "session": "s", "version": "5.3"},
        "parent_header": {},
        "metadata": {},
        "content": {"code": "for n in range(3): print('ñ', n, flush=True)", "silent": False, "store_history": False},
        "channel": "shell",
    }
    printed: list[str] = []
    async with session.ws_connect(channels, headers=headers) as socket:
        await socket.send_str(json.dumps(message))
        async for received in socket:
            assert received.type is WSMsgType.TEXT, received
            reply = json.loads(received.data)
            if reply["parent_header"].get("msg_id") != "run":
                continue
            if reply["msg_type"] == "stream":
                printed.extend(reply["content"]["text"].splitlines())
            if reply["msg_type"] == "status" and reply["content"]["execution_state"] == "idle":
                break
    async with session.delete(f"{base}/api/kernels/{kernel}", headers=headers) as response:
        assert response.status == 204
    return printed


@pytest.mark.parametrize("place", ["prefix", "host"])
async def test_a_jupyterlab_kernel_runs_a_program(tmp_path: Path, place: str) -> None:
    base = "/lab-here/" if place == "prefix" else "/"
    argv = [command("jupyter"), "lab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1"]
    argv += ["--ServerApp.port={port}", "--ServerApp.port_retries=0", f"--ServerApp.base_url={base}"]
    argv += ["--IdentityProvider.token=", "--ServerApp.disable_check_xsrf=True", f"--ServerApp.root_dir={tmp_path}"]
    argv += [f"--ServerApp.local_hostnames={HOST}", "--ServerApp.local_hostnames=127.0.0.1"]
    async with server(argv, tmp_path) as port, ClientSession() as session:
        behind = _on_its_own_host(port) if place == "host" else gateway_to(port, {"prefix": base.rstrip("/")})
        async with behind as gateway:
            headers = {"Host": HOST} if place == "host" else {}
            url = gateway.url + base.rstrip("/")
            # On its own host these two are the application's, though the gateway has paths of the same names.
            assert "JupyterLab" in await _page(session, f"{url}/lab", **headers)
            assert "version" in await _page(session, f"{url}/api", **headers)
            if place == "host":
                assert "terminal_currently_running_total" in await _page(session, f"{url}/metrics", **headers)
            assert await _execute(session, url, headers) == ["ñ 0", "ñ 1", "ñ 2"]


async def test_a_streamlit_page_opens_its_socket(tmp_path: Path) -> None:
    argv = [command("streamlit"), "run", str(PROGRAMS / "streamlit_app.py"), "--server.port", "{port}"]
    argv += ["--server.address", "127.0.0.1", "--server.headless", "true", "--server.baseUrlPath", "show"]
    argv += ["--browser.gatherUsageStats", "false"]
    async with (
        server(argv, tmp_path) as port,
        gateway_to(port, {"prefix": "/show"}) as gateway,
        ClientSession() as session,
    ):
        assert "Streamlit" in await _page(session, f"{gateway.url}/show/")
        assert await _page(session, f"{gateway.url}/show/_stcore/health") == "ok"
        origin = {"Origin": gateway.url}
        stream = f"{gateway.url}/show/_stcore/stream"
        async with session.ws_connect(stream, protocols=["streamlit"], headers=origin) as socket:
            # A ForwardMsg of the page's own protocol is requested by an empty BackMsg that asks for a run.
            await socket.send_bytes(b"\x5a\x00")
            received = await asyncio.wait_for(socket.receive(), 20)
    assert received.type is WSMsgType.BINARY
    assert received.data


async def test_a_gradio_function_streams_its_result(tmp_path: Path) -> None:
    argv = [command("python"), str(PROGRAMS / "gradio_app.py"), "{port}"]
    environment = {"GRADIO_ANALYTICS_ENABLED": "False"}
    async with (
        server(argv, tmp_path, environment) as port,
        gateway_to(port, {"prefix": "/g", "strip": True}) as gateway,
    ):
        assert await run_program("gradio_caller", f"{gateway.url}/g/", folder=tmp_path) == "ok\n"


async def test_a_node_red_editor_deploys_and_listens(tmp_path: Path) -> None:
    settings = tmp_path / "settings.js"
    settings.write_text("module.exports = {httpRoot: '/red', uiHost: '127.0.0.1', telemetry: {enabled: false}}")
    argv = [command("node-red"), "--port", "{port}", "--userDir", str(tmp_path), "--settings", str(settings)]
    flow: list[dict[str, Any]] = [
        {"id": "tab", "type": "tab", "label": "t"},
        {"id": "in", "z": "tab", "type": "http in", "url": "/hello", "method": "get", "wires": [["out"]]},
        {"id": "out", "z": "tab", "type": "http response", "statusCode": "", "wires": []},
    ]
    async with (
        server(argv, tmp_path) as port,
        gateway_to(port, {"prefix": "/red"}) as gateway,
        ClientSession() as session,
        session.ws_connect(f"{gateway.url}/red/comms") as socket,
    ):
        assert "Node-RED" in await _page(session, f"{gateway.url}/red/")
        await socket.send_str(json.dumps({"subscribe": "notification/#"}))
        async with session.post(f"{gateway.url}/red/flows", json=flow) as response:
            assert response.status == 204, await response.text()
        async with asyncio.timeout(20):
            while "runtime-deploy" not in (await socket.receive_str()):
                pass
            # It says so before its nodes listen.
            while (found := await session.get(f"{gateway.url}/red/hello")).status == 404:
                await asyncio.sleep(0.05)
        assert (found.status, await found.text()) == (200, "{}")


async def test_socket_io_by_each_transport(tmp_path: Path) -> None:
    argv = [command("python"), str(PROGRAMS / "socketio_server.py"), "{port}"]
    async with server(argv, tmp_path) as port, gateway_to(port, {"prefix": "/rt", "strip": True}) as gateway:
        assert await run_program("socketio_client", gateway.url, "rt/socket.io", folder=tmp_path) == "ok\n"
