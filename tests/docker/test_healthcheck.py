"""The image's health check, run as Docker runs it: a program with an environment, beside a real gateway."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import pytest_asyncio

from tests.support.gateway_process import ROOT, TOKEN, Running, running_gateway
from tests.support.wire import answering, ok, upstream

FOREIGN = ["link", "writable by others", "second name", "fifo", *(["of another user"] if os.geteuid() == 0 else [])]
"""Files that others may have made or changed. Only root can give one away."""
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway() -> AsyncIterator[Running]:
    async with running_gateway({"services": {"a": {"url": "http://127.0.0.1:9"}}}) as running:
        yield running


async def check(**env: str) -> tuple[int | None, str]:
    """Its exit code and what it prints, with nothing but `env` in its environment.

    It remembers what the check before found only where that had the same TMPDIR.
    """
    with TemporaryDirectory() as folder:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, ROOT / "docker" / "healthcheck.py"),
            env={"PATH": os.environ["PATH"], "TMPDIR": folder, **env},
            stderr=PIPE,
        )
        _, printed = await process.communicate()
    return process.returncode, printed.decode()


async def test_it_asks_the_port_that_the_environment_sets(gateway: Running) -> None:
    assert await check(TENTACULO_SERVER_PORT=str(gateway.port)) == (0, "")
    assert await check(TENTACULO_SERVER_LISTEN=f'["0.0.0.0:{gateway.port}", "127.0.0.1:9"]') == (0, "")


async def test_it_asks_the_port_that_the_file_sets(gateway: Running, tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("etc") / "gateway.toml"
    file.write_text(f"[server]\nport = {gateway.port}\n")
    assert await check(TENTACULO_CONFIG=str(file)) == (0, "")


async def test_a_fault_that_gets_into_the_file_makes_no_running_gateway_unhealthy(
    gateway: Running, tmp_path: Path
) -> None:
    file = tmp_path / "gateway.toml"
    env = {"TENTACULO_CONFIG": str(file), "TMPDIR": str(tmp_path)}
    file.write_text(f"[server]\nport = {gateway.port}\nprot = 1\n")
    code, printed = await check(**env)
    assert (code, "server.prot" in printed) == (1, True), "it never was healthy"
    file.write_text(f"[server]\nport = {gateway.port}\n")
    assert await check(**env) == (0, "")
    for fault in (f"[server]\nport = {gateway.port}\nprot = 1\n", "[server"):
        file.write_text(fault)
        assert await check(**env) == (0, "")
    file.write_text("[server]\nport = 9\n")
    code, printed = await check(**env)
    assert (code, "refused" in printed) == (1, True), "a configuration without faults counts"


@pytest.mark.parametrize("kind", FOREIGN)
async def test_an_address_that_others_may_have_left_is_not_asked(gateway: Running, tmp_path: Path, kind: str) -> None:
    """The check was sent to whatever address stood in a file of a name that everybody knows, in a folder for all."""
    file, mine, last = tmp_path / "gateway.toml", tmp_path / "mine", tmp_path / "tentaculo-healthcheck-url"
    env = {"TENTACULO_CONFIG": str(file), "TMPDIR": str(tmp_path)}
    (mine if kind in ("link", "second name") else last).touch(0o600)
    if kind == "link":
        last.symlink_to(mine)
    elif kind == "second name":
        last.hardlink_to(mine)
    elif kind == "fifo":
        last.unlink()
        os.mkfifo(last, 0o600)
    elif kind == "of another user":
        os.chown(last, 12345, 12345)
    else:
        last.chmod(0o666)
    file.write_text(f"[server]\nport = {gateway.port}\n")
    assert await check(**env) == (0, "")
    if kind != "fifo":
        assert last.read_text() == "", "it is not written either"
        (mine if mine.exists() else last).write_text(f"{gateway.url}/livez")
    file.write_text("[server")
    code, printed = await check(**env)
    assert (code, "ConfigError" in printed or "gateway.toml" in printed) == (1, True)


async def test_the_address_is_kept_for_this_user_alone(gateway: Running, tmp_path: Path) -> None:
    assert await check(TENTACULO_SERVER_PORT=str(gateway.port), TMPDIR=str(tmp_path)) == (0, "")
    kept = tmp_path / "tentaculo-healthcheck-url"
    assert (kept.stat().st_mode & 0o777, kept.read_text()) == (0o600, f"http://127.0.0.1:{gateway.port}/livez")


async def test_changes_with_faults_are_left_out_as_the_gateway_does(gateway: Running, tmp_path: Path) -> None:
    changes = tmp_path / "changes.json"
    changes.write_text("{")
    env = {"TENTACULO_SERVER_PORT": str(gateway.port), "TENTACULO_ADMIN_CHANGES_FILE": str(changes)}
    assert await check(**env) == (0, "")


async def test_a_gateway_that_does_not_answer_is_unhealthy(gateway: Running) -> None:
    code, printed = await check(TENTACULO_SERVER_PORT="9")
    assert (code, "refused" in printed) == (1, True)
    code, printed = await check(HEALTHCHECK_URL=f"{gateway.url}/nothing")
    assert (code, printed) == (1, "its status is 404\n")


@pytest.mark.parametrize("env", [{"TENTACULO_SERVER_PORT": "x"}, {"HEALTHCHECK_URL": "https://127.0.0.1/"}])
async def test_a_setting_that_cannot_be_used_is_named(env: dict[str, str]) -> None:
    code, printed = await check(**env)
    assert code == 1
    assert "Traceback" not in printed
    assert ("server.port" if "TENTACULO_SERVER_PORT" in env else "https://127.0.0.1/") in printed


async def test_a_proxy_of_the_environment_is_not_used(gateway: Running) -> None:
    async with upstream(answering(ok())) as proxy:
        proxies = dict.fromkeys(
            ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"), f"http://127.0.0.1:{proxy.port}"
        )
        found = await check(HEALTHCHECK_URL=f"{gateway.url}/livez", TENTACULO_TOKEN=TOKEN, **proxies)
        assert (found, proxy.connections) == ((0, ""), 0)


@pytest.mark.parametrize(("host", "tokens"), [("127.0.0.1", [TOKEN]), ("127.0.0.2", [])])
async def test_the_token_is_sent_to_this_container_only_and_no_redirect_is_followed(
    host: str, tokens: list[str]
) -> None:
    elsewhere = ok(b"", b"Location: http://127.0.0.1:9/", status=b"302 Found")
    async with upstream(answering(elsewhere), host) as service:
        code, printed = await check(HEALTHCHECK_URL=f"http://{host}:{service.port}/health", TENTACULO_TOKEN=TOKEN)
        assert (code, printed) == (1, "its status is 302\n")
        assert service.requests[0].all("X-VX11-Token") == tokens
