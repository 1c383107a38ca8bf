"""Tools that store and fetch files, behind a stripped prefix: git, apt, WebDAV, S3 and tus."""

from __future__ import annotations

import re
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import pytest
from aiohttp import ClientSession

from tests.conformance.applications.environment import (
    PROGRAMS,
    RUN_TIMEOUT,
    command,
    gateway_to,
    run,
    run_program,
    server,
    system_command,
)

pytestmark = pytest.mark.timeout(2 * RUN_TIMEOUT)
GIT = {"GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@example.test", "GIT_CONFIG_NOSYSTEM": "1"}
GIT |= {"GIT_COMMITTER_NAME": "t", "GIT_COMMITTER_EMAIL": "t@example.test", "GIT_TERMINAL_PROMPT": "0"}
SUMMARY = re.compile(r"summary for `(\w+)': of (\d+) tests run: (\d+) passed, (\d+) failed")


def _folder(parent: Path, name: str) -> Path:
    folder = parent / name
    folder.mkdir()
    return folder


async def test_git_pushes_and_clones_a_large_repository(tmp_path: Path) -> None:
    git = system_command("git", "git")
    served, work = _folder(tmp_path, "served"), _folder(tmp_path, "work")
    await run([git, "init", "-q", "--bare", str(served / "project.git")], tmp_path)
    await run([git, "-C", str(served / "project.git"), "config", "http.receivepack", "true"], tmp_path)
    await run([git, "init", "-q", "-b", "main"], work)
    content = Random(1).randbytes(3_000_000)
    (work / "large.bin").write_bytes(content)
    await run([git, "add", "."], work, GIT)
    await run([git, "commit", "-q", "-m", "one"], work, GIT)
    backend = [command("python"), str(PROGRAMS / "git_server.py"), "{port}", str(served)]
    async with server(backend, tmp_path) as port, gateway_to(port, {"prefix": "/git", "strip": True}) as gateway:
        url = f"{gateway.url}/git/project.git"
        # A pack of more than http.postBuffer, 1 MB, is sent in chunks.
        await run([git, "push", "-q", url, "main"], work, GIT)
        await run([git, "clone", "-q", "-b", "main", url, "copy"], tmp_path, GIT)
        assert (tmp_path / "copy" / "large.bin").read_bytes() == content
        (work / "second.txt").write_text("two")
        await run([git, "add", "."], work, GIT)
        await run([git, "commit", "-q", "-m", "two"], work, GIT)
        await run([git, "push", "-q", url, "main"], work, GIT)
        await run([git, "pull", "-q", url, "main"], tmp_path / "copy", GIT)
        assert (tmp_path / "copy" / "second.txt").read_text() == "two"


async def test_apt_installs_from_a_flat_repository(tmp_path: Path) -> None:
    """The source `deb URL ./` has a single dot in each path, and apt pipelines its requests."""
    apt, dpkg = system_command("apt-get", "apt"), system_command("dpkg-deb", "dpkg")
    repository, root = _folder(tmp_path, "repository"), _folder(tmp_path, "apt")
    index = []
    for number in range(20):
        control = f"Package: sample{number}\nVersion: 1.0\nArchitecture: all\nMaintainer: t <t@example.test>\n"
        control += "Description: a sample\n"
        package = tmp_path / f"sample{number}"
        (package / "DEBIAN").mkdir(parents=True)
        (package / "DEBIAN" / "control").write_text(control)
        (package / "data").write_bytes(Random(number).randbytes(50_000))
        file = repository / f"sample{number}_1.0_all.deb"
        await run([dpkg, "--build", "--root-owner-group", str(package), str(file)], tmp_path)
        content = file.read_bytes()
        index.append(f"{control}Filename: ./{file.name}\nSize: {len(content)}\nSHA256: {sha256(content).hexdigest()}\n")
    (repository / "Packages").write_text("\n".join(index))
    for name in ("state/lists/partial", "cache/archives/partial", "etc/preferences.d", "etc/apt.conf.d"):
        (root / name).mkdir(parents=True)
    (root / "state" / "status").touch()
    files = [command("python"), "-m", "http.server", "--bind", "127.0.0.1", "--directory", str(repository), "{port}"]
    async with server(files, tmp_path) as port, gateway_to(port, {"prefix": "/repo", "strip": True}) as gateway:
        (root / "etc" / "sources.list").write_text(f"deb [trusted=yes] {gateway.url}/repo ./\n")
        options = {
            "Dir": f"{root}/",
            "Dir::Etc": "etc",
            "Dir::State": "state",
            "Dir::State::status": f"{root}/state/status",
            "Dir::Cache": "cache",
            "APT::Sandbox::User": "",
            "Acquire::Languages": "none",
            "Acquire::http::Proxy": "false",
        }
        quiet = [apt, "-q", *(f"-o{name}={value}" for name, value in options.items())]
        await run([*quiet, "update"], tmp_path)
        downloads = _folder(tmp_path, "downloads")
        await run([*quiet, "download", *(f"sample{number}" for number in range(20))], downloads)
        for file in repository.glob("*.deb"):
            assert (downloads / file.name).read_bytes() == file.read_bytes()


@pytest.mark.parametrize(
    ("route", "mount", "suites"),
    [
        # The hrefs in the bodies of PROPFIND are the service's own, so the suites that read them need a kept prefix.
        ({"prefix": "/dav", "strip": True}, "", ["basic", "copymove"]),
        ({"prefix": "/dav"}, "/dav", ["basic", "copymove", "props", "locks", "http"]),
    ],
    ids=["stripped", "kept"],
)
async def test_litmus_finds_what_it_finds_without_the_gateway(
    tmp_path: Path, route: dict[str, Any], mount: str, suites: list[str]
) -> None:
    """WebDAV's own test program; COPY and MOVE name the public address in Destination, and LOCK in If."""
    litmus = system_command("litmus", "litmus")
    settings = tmp_path / "wsgidav.yaml"
    settings.write_text(f"property_manager: true\nlock_storage: true\nmount_path: '{mount}'\n")
    argv = [command("wsgidav"), "--host", "127.0.0.1", "--port", "{port}", "--root", str(_folder(tmp_path, "dav"))]
    argv += ["--auth", "anonymous", "--config", str(settings)]
    async with server(argv, tmp_path) as port, gateway_to(port, route) as gateway:
        found = []
        for place, url in (("through", f"{gateway.url}/dav/"), ("direct", f"http://127.0.0.1:{port}{mount}/")):
            printed = await run([litmus, "-k", url], _folder(tmp_path, place), {"TESTS": " ".join(suites)})
            found.append(SUMMARY.findall(printed))
    assert [name for name, *_ in found[1]] == suites
    assert found[0] == found[1]


async def test_s3_signs_what_the_service_receives(tmp_path: Path) -> None:
    """A signature covers Host and the path's bytes: neither may change on the way."""
    argv = [command("moto_server"), "-H", "127.0.0.1", "-p", "{port}"]
    async with server(argv, tmp_path) as port, gateway_to(port, {"prefix": "/"}) as gateway:
        assert await run_program("s3_client", gateway.url, folder=tmp_path) == "ok\n"


async def test_tus_resumes_an_upload(tmp_path: Path) -> None:
    """Location names the service's own view of the address: the client must get its own."""
    content = Random(3).randbytes(550_000)
    (tmp_path / "file").write_bytes(content)
    argv = [command("python"), str(PROGRAMS / "tus_server.py"), "{port}"]
    async with server(argv, tmp_path) as port, gateway_to(port, {"prefix": "/tus", "strip": True}) as gateway:
        url = (await run_program("tus_client", f"{gateway.url}/tus/files/", "file", folder=tmp_path)).strip()
        assert url.startswith(f"{gateway.url}/tus/files/")
        async with ClientSession() as session, session.get(url) as response:
            assert await response.read() == content
