"""The demonstration as a child process."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import psutil
import pytest
from aiohttp import ClientSession
from structlog.testing import capture_logs

from tentaculo.config.schema import Config
from tentaculo.demo import process
from tentaculo.demo.catalogue import FLEET
from tentaculo.demo.process import Demo, DemoError
from tentaculo.demo.services import Ports
from tentaculo.security.tokens import hash_token

ROOT = Path(__file__).parents[2]


def _children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "tentaculo.demo" in child.cmdline()]


@pytest.fixture(autouse=True)
def _shub_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SHUB_ENABLED", raising=False)


async def test_it_runs_while_the_context_lasts() -> None:
    async with Demo(ports=Ports.FREE) as demo, ClientSession() as session:
        assert set(demo.ports) == {blueprint.name for blueprint in FLEET if not blueprint.off}
        (child,) = _children()
        for name, port in demo.ports.items():
            headers = {"X-VX11-Token": demo.token}
            async with session.get(f"http://127.0.0.1:{port}/health", headers=headers) as response:
                assert (await response.json())["module"] == name
        assert demo.token not in " ".join(child.cmdline())
    assert not child.is_running()


async def test_its_configuration_is_valid_and_leads_to_it() -> None:
    async with Demo(ports=Ports.FREE) as demo:
        config = Config.of(demo.config_data)
        ports = {name: service.upstreams[0].port for name, service in config.services.items()}
        assert ports == {**demo.ports, "shubniggurath": 8007}
        assert [one.hash for one in config.auth.tokens] == [hash_token(demo.token)]
        assert not config.services["shubniggurath"].enabled
        for service in config.services.values():
            assert service.token is not None
            assert service.token.reveal() == demo.token
            assert service.upstreams[0].host == "127.0.0.1"


async def test_what_is_off_on_purpose_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHUB_ENABLED", "true")
    async with Demo(ports=Ports.FREE) as demo:
        config = Config.of(demo.config_data)
        assert len(demo.ports) == 9
        assert config.services["shubniggurath"].enabled
        assert config.services["shubniggurath"].upstreams[0].port == demo.ports["shubniggurath"]


async def test_a_fleet_that_dies_is_told_of_and_one_that_is_stopped_is_not() -> None:
    with capture_logs() as logs:
        async with Demo(ports=Ports.FREE):
            pass
        assert logs == []
        async with Demo(ports=Ports.FREE):
            (child,) = _children()
            child.kill()
            async with asyncio.timeout(5):
                while not logs:
                    await asyncio.sleep(0.01)
    assert logs == [{"event": "demonstration ended", "code": -signal.SIGKILL, "log_level": "error"}]


async def test_each_has_its_own_token() -> None:
    assert Demo().token != Demo().token


async def test_a_child_that_ends_at_once_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(DemoError, match="did not start"):
        async with Demo():
            pass


async def test_a_child_that_says_nothing_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    deaf = tmp_path / "deaf"
    deaf.write_text("#!/bin/sh\nexec sleep 30\n")
    deaf.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(deaf))
    monkeypatch.setattr(process, "START_TIMEOUT", 0.3)
    with pytest.raises(DemoError, match=r"did not start in 0\.3 s"):
        async with Demo():
            pass


async def test_missing_routes_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_ROUTES", (Path("/nowhere/vx11.toml"),))
    with pytest.raises(DemoError, match=r"vx11\.toml"):
        _ = Demo().config_data


PARENT = """
import asyncio
from tentaculo.demo.services import Ports
from tentaculo.demo.process import Demo

async def main():
    async with Demo(ports=Ports.FREE) as demo:
        print(demo._child.pid, flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_it_ends_when_its_parent_is_killed() -> None:
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    assert parent.stdout is not None
    child = psutil.Process(int(await parent.stdout.readline()))
    parent.kill()
    await parent.wait()
    gone, _ = await asyncio.to_thread(psutil.wait_procs, [child], 10)
    assert gone == [child]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_one_service_by_itself_ends_by_signal(number: signal.Signals) -> None:
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tentaculo.demo", "--only", "mcp", "--ports", "free"),
        stdout=asyncio.subprocess.PIPE,
        stdin=asyncio.subprocess.DEVNULL,
        cwd=ROOT,
    )
    assert child.stdout is not None
    line = await child.stdout.readline()
    assert line.startswith(b'{"ports": {"mcp": ')
    os.kill(child.pid, number)
    assert await child.wait() == 0
