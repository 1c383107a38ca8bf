"""`pip install` into a clean environment gives a `tentaculo` that works from any folder.

The environment borrows its libraries from the one that runs these tests, so that only the project's own wheel is built
and installed; tests/docker installs the libraries too.
"""

from __future__ import annotations

import asyncio
import re
import sys
import sysconfig
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from pathlib import Path
from zipfile import ZipFile

import pytest
import pytest_asyncio
from aiohttp import ClientSession

from tests.support.gateway_process import ROOT, clean_environment, running_process

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]


async def _run(*command: str | Path, cwd: Path) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *map(str, command), cwd=cwd, env=clean_environment(), stdin=DEVNULL, stdout=PIPE, stderr=STDOUT
    )
    said, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode(errors="replace")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's wheel, built as pip builds it, with the build tool of the test environment."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-deps")
    code, said = await _run(*pip, "--no-build-isolation", "--wheel-dir", folder, ROOT, cwd=folder)
    assert code == 0, said
    (built,) = folder.glob("*.whl")
    return built


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tentaculo(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The installed command."""
    folder = tmp_path_factory.mktemp("clean")
    code, said = await _run(sys.executable, "-m", "venv", "--without-pip", folder / "env", cwd=folder)
    assert code == 0, said
    python = folder / "env" / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check", "install", "--quiet")
    code, said = await _run(*pip, "--no-deps", "--no-index", wheel, cwd=folder)
    assert code == 0, said
    (site,) = (folder / "env" / "lib").glob("python3*/site-packages")
    (site / "libraries.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return folder / "env" / "bin" / "tentaculo"


async def test_the_wheel_holds_what_the_program_reads_and_no_more(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        names = set(archive.namelist())
    ours = {name.partition("/")[2] for name in names if name.startswith("tentaculo/")}
    assert {"templates/status.html", "migrations/env.py", "demo/vx11.toml"} <= ours
    assert any(name.startswith("migrations/versions/") and name.endswith(".py") for name in ours)
    tops = {name.partition("/")[0] for name in names}
    assert sorted(top for top in tops if not top.endswith(".dist-info")) == ["tentaculo"]
    assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc")]


async def test_the_demonstration_runs_from_an_empty_folder(tentaculo: Path, tmp_path: Path) -> None:
    command = (str(tentaculo), "demo", "--port", "0")
    async with running_process(command, tmp_path, clean_environment()) as gateway:
        said = gateway.output.read_text()
        token = re.search(r"X-VX11-Token: ([\w-]+)", said)
        assert token is not None, said
        async with ClientSession(gateway.url) as client:
            async with client.get("/health") as response:
                assert await response.json() == {"status": "ok", "module": "tentaculo_link", "version": "7.0"}
            async with client.get("/status") as response:
                assert (response.status, response.content_type) == (200, "text/html")
                assert "madre" in await response.text()
            async with client.get("/madre/tasks", headers={"X-VX11-Token": token[1]}) as response:
                assert response.status == 200
                assert (await response.json())["service"] == "madre"
            async with client.get("/madre/tasks") as response:
                assert response.status == 401
        assert await gateway.stop() == 0
    assert [path.name for path in tmp_path.iterdir()] == ["output.txt"]


async def test_a_configuration_of_ones_own(tentaculo: Path, tmp_path: Path) -> None:
    code, said = await _run(tentaculo, "init", cwd=tmp_path)
    assert code == 0, said
    code, said = await _run(tentaculo, "check", cwd=tmp_path)
    assert code == 0, said
    code, said = await _run(tentaculo, "db", "upgrade", cwd=tmp_path)
    assert code == 0, said
    assert (tmp_path / "data" / "tentaculo.db").stat().st_size > 0


async def test_it_says_its_version(tentaculo: Path, wheel: Path, tmp_path: Path) -> None:
    code, said = await _run(tentaculo, "--version", cwd=tmp_path)
    assert code == 0
    assert wheel.name.split("-")[1] in said
