"""The Dockerfile's own steps, followed without an engine, and what it starts.

Each COPY, RUN and ENV is carried out below a temporary folder, so the clean environment is made of exactly what the
image is made of; then the image's CMD, HEALTHCHECK and the compose file's commands run in it.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import ClientSession

from tests.docker.dockerfile import Instruction, parse
from tests.support.gateway_process import ROOT, TOKEN, Running, clean_environment, running_process
from tests.support.needs import need, package_index_answers

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]
_ABSOLUTE = re.compile(r"(?<![\w.])(/(?:opt|build|data|etc)\b)")


@dataclass(slots=True)
class Image:
    """The steps' results, below `root`."""

    root: Path
    environment: dict[str, str] = field(default_factory=dict)
    instructions: list[Instruction] = field(default_factory=list)
    folder: str = "/"

    def inside(self, text: str) -> str:
        """`text` with the container's absolute paths led below `root`."""
        return _ABSOLUTE.sub(lambda match: f"{self.root}{match[1]}", text)

    def words(self, name: str) -> list[str]:
        """The last instruction of that name, ready to run here."""
        found = [i for i in self.instructions if i.name == name][-1]
        return [self.inside(word) for word in found.words]

    def env(self, **extra: str) -> dict[str, str]:
        """The environment a container would have, and `extra`."""
        ours = {name: self.inside(value) for name, value in self.environment.items()}
        path = ours["PATH"].replace("$PATH", os.environ["PATH"])
        return clean_environment({**ours, "PATH": path, **extra})

    async def follow(self, instruction: Instruction) -> None:
        """Carry out one instruction."""
        self.instructions.append(instruction)
        match instruction.name:
            case "FROM":
                self.folder = "/"
            case "WORKDIR":
                self.folder = instruction.arguments
                Path(self.inside(self.folder)).mkdir(parents=True, exist_ok=True)
            case "ENV":
                self.environment |= dict(word.split("=", 1) for word in instruction.words)
            case "COPY":
                self._copy(instruction.words)
            case "RUN":
                await self._run(instruction.arguments)

    def _copy(self, words: list[str]) -> None:
        # The stages share one root here, so what the last takes from the first is in its place already.
        if words[0].startswith("--from"):
            assert words[1] == words[2]
            return
        target = Path(self.inside(os.path.join(self.folder, words[-1])))
        for source in words[:-1]:
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                into = target / Path(source).name if words[-1].endswith("/") else target
                into.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / source, into)

    async def _run(self, command: str) -> None:
        # Who owns the volume matters to the engine only.
        command = re.sub(r"install -d -o \d+ -g \d+", "install -d", command)
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        process = await asyncio.create_subprocess_exec(
            *("sh", "-euc", self.inside(command)),
            cwd=self.inside(self.folder),
            env={**os.environ, "PATH": path},
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
        )
        said, _ = await process.communicate()
        assert process.returncode == 0, f"{command}\n{said.decode(errors='replace')}"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def image(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Image]:
    need(await package_index_answers(), "a package index that answers")
    image = Image(tmp_path_factory.mktemp("image"))
    (image.root / "build").mkdir()
    for instruction in parse(ROOT / "docker" / "Dockerfile"):
        await image.follow(instruction)
    yield image
    shutil.rmtree(image.root)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def demo(image: Image) -> AsyncIterator[int]:
    """The port of a service as compose starts it, but at a free one and on loopback only."""
    process = await asyncio.create_subprocess_exec(
        *("python", "-m", "tentaculo.demo", "--only", "hermes", "--ports", "free"),
        cwd=image.inside(image.folder),
        env=image.env(TENTACULO_TOKEN=TOKEN),
        stdin=DEVNULL,
        stdout=PIPE,
    )
    assert process.stdout is not None
    yield json.loads(await process.stdout.readline())["ports"]["hermes"]
    process.terminate()
    assert await process.wait() == 0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(image: Image, demo: int) -> AsyncIterator[Running]:
    """The image's CMD with the image's configuration, told where it is by the environment alone."""
    env = image.env(
        TENTACULO_TOKEN=TOKEN,
        TENTACULO_SERVER_HOST="127.0.0.1",
        TENTACULO_SERVER_PORT="0",
        TENTACULO_SERVICES_HERMES_URL=f"http://127.0.0.1:{demo}",
    )
    command = image.words("CMD")
    executable = shutil.which(command[0], path=env["PATH"])
    assert executable == f"{image.root}/opt/tentaculo/bin/tentaculo"
    async with running_process([executable, *command[1:]], Path(image.inside("/data")), env) as running:
        yield running


async def _check_health(image: Image, url: str, token: str) -> int:
    arguments = [i for i in image.instructions if i.name == "HEALTHCHECK"][-1].arguments
    command = [image.inside(word) for word in json.loads(arguments[arguments.index("[") :])]
    env = image.env(HEALTHCHECK_URL=url, TENTACULO_TOKEN=token)
    process = await asyncio.create_subprocess_exec(*command, env=env, stderr=DEVNULL)
    return await process.wait()


async def test_the_gateway_runs_as_the_image_starts_it(gateway: Running) -> None:
    async with ClientSession(gateway.url) as client:
        async with client.get("/health") as response:
            assert (await response.json())["module"] == "tentaculo_link"
        async with client.get("/vx11/status") as response:
            assert len((await response.json())["modules"]) == 9
        async with client.get("/status") as response:
            assert response.status == 200
            assert response.content_type == "text/html"


async def test_its_fleet_is_reached_through_it(gateway: Running) -> None:
    session = ClientSession(gateway.url, headers=gateway.headers)
    async with session as client, client.get("/hermes/commands") as response:
        assert response.status == 200
        assert (await response.json())["service"] == "hermes"


async def test_its_data_is_on_the_volume(gateway: Running, image: Image) -> None:
    assert (image.root / "data" / "tentaculo.db").exists()
    assert not (image.root / "etc" / "tentaculo" / "data").exists()


async def test_the_health_check_tells_well_from_ill(image: Image, gateway: Running, demo: int) -> None:
    assert await _check_health(image, f"{gateway.url}/livez", "") == 0
    assert await _check_health(image, f"{gateway.url}/nothing", TOKEN) == 1
    assert await _check_health(image, "http://127.0.0.1:1/livez", "") == 1
    # Hermes wants the token even here.
    assert await _check_health(image, f"http://127.0.0.1:{demo}/health", TOKEN) == 0
    assert await _check_health(image, f"http://127.0.0.1:{demo}/health", "wrong") == 1


async def test_nothing_that_builds_is_left_in_it(image: Image) -> None:
    packages = {path.name for path in (image.root / "opt/tentaculo/lib").glob("python3*/site-packages/*")}
    assert "tentaculo" in packages
    assert not packages & {"pip", "setuptools", "hatchling", "wheel", "pytest"}


async def test_sigterm_ends_it_in_good_order(gateway: Running) -> None:
    assert await gateway.stop() == 0
