"""The command line as a process: what it prints, where, and with which code it ends."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import sqlite3
import stat
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from click.testing import CliRunner
from pytest_aiohttp.plugin import AiohttpServer

from tentaculo.cli.main import cli
from tentaculo.config.key_reference import example_text
from tentaculo.config.loader import load
from tentaculo.security.tokens import hash_token

ROOT = Path(__file__).resolve().parents[2]
SECRET = "hunter2-never-shown"
WAIT = 30.0
FAULTY = f"""
[server]
prot = 1
[auth]
tokens = ["{SECRET}"]
[services.madre]
url = "http://u:{SECRET}@h"
routes = [{{ prefix = "madre" }}]
"""
FAULTS = (
    'server.prot: unknown key; did you mean "port"?',
    "auth.tokens[0].hash: must be sha256:",
    "services.madre.url: must not hold",
    "services.madre.routes[0].prefix: must start with /",
)
COMMANDS = (
    ("serve",),
    ("demo",),
    ("init",),
    ("check",),
    ("truth",),
    ("token", "new"),
    ("db", "upgrade"),
    ("db", "downgrade"),
    ("db", "current"),
)


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """This process's, without any name that configures the gateway."""
    names = ("TENTACULO_", "VX11_", "SHUB_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(names)}
    return {**kept, "PYTHONPATH": str(ROOT), **more}


async def start(folder: Path, *arguments: str, **environ: str) -> asyncio.subprocess.Process:
    descriptors = environ.pop("descriptors", None)
    limited = ("sh", "-c", f'ulimit -n {descriptors} && exec "$0" "$@"') if descriptors else ()
    return await asyncio.create_subprocess_exec(
        *(*limited, sys.executable, *arguments),
        cwd=folder,
        env=environment(environ),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def end(process: asyncio.subprocess.Process) -> Done:
    try:
        out, err = await asyncio.wait_for(process.communicate(), WAIT)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    assert process.returncode is not None
    return Done(process.returncode, out.decode(), err.decode())


async def run(folder: Path, *arguments: str, **environ: str) -> Done:
    return await end(await start(folder, "-m", "tentaculo", *arguments, **environ))


class Gateway:
    """A gateway that runs, and what it has printed so far."""

    def __init__(self, process: asyncio.subprocess.Process, out: str) -> None:
        self.process = process
        self.out = out
        found = re.search(r"status page +(http://\S+)/status", out)
        assert found
        self.url = found[1]

    async def stop(self) -> Done:
        self.process.send_signal(signal.SIGTERM)
        done = await end(self.process)
        return Done(done.code, self.out + done.out, done.err)


@asynccontextmanager
async def serving(folder: Path, *arguments: str, **environ: str) -> AsyncIterator[Gateway]:
    process = await start(folder, "-m", "tentaculo", *arguments, **environ)
    try:
        yield Gateway(process, await asyncio.wait_for(_greeting(process), WAIT))
    finally:
        if process.returncode is None:
            process.terminate()
            await end(process)


async def _greeting(process: asyncio.subprocess.Process) -> str:
    """What it prints until its last line before it only serves."""
    assert process.stdout
    lines = ""
    while line := (await process.stdout.readline()).decode():
        lines += line
        if "call one" in line:
            return lines
    raise AssertionError(f"it ended with {(await end(process)).err}\n{lines}")


async def get(url: str, token: str | None = None) -> tuple[int, bytes]:
    headers = {} if token is None else {"X-VX11-Token": token}
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as response:
        return response.status, await response.read()


def write_config(folder: Path, text: str) -> None:
    (folder / "tentaculo.toml").write_text(text, encoding="utf-8")


@pytest.fixture
async def upstream(aiohttp_server: AiohttpServer) -> str:
    """A service: its address."""

    async def answer(request: web.Request) -> web.Response:
        return web.json_response({"path": request.path, "token": request.headers.get("X-VX11-Token")})

    async def health(_request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    app = web.Application()
    app.add_routes([web.get("/health", health), web.get("/{path:.*}", answer)])
    server = await aiohttp_server(app)
    return f"http://127.0.0.1:{server.port}"


def fleet(upstream: str) -> str:
    return f'[server]\nport = 0\n[services.madre]\nurl = "{upstream}"\nroutes = [{{ prefix = "/madre" }}]\n'


# -- usage -------------------------------------------------------------------------------------------------------


def test_the_help_names_every_command_and_exit_code() -> None:
    done = CliRunner().invoke(cli, ["--help"])
    assert done.exit_code == 0
    for command in {command for command, *_ in COMMANDS}:
        assert re.search(rf"(?m)^  {command} ", done.output), command
    assert re.findall(r"(?m)^    (\d)  ", done.output) == ["0", "1", "2", "3"]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_an_example(command: tuple[str, ...]) -> None:
    done = CliRunner().invoke(cli, [*command, "--help"], prog_name="tentaculo")
    assert done.exit_code == 0
    assert re.search(rf"Examples?:\n +tentaculo {' '.join(command)}", done.output)


@pytest.mark.parametrize(
    "arguments", [("sreve",), ("serve", "--prot", "1"), ("serve", "--port", "70000"), ("serve", "--host", "a:1")]
)
def test_wrong_usage_ends_with_2(arguments: tuple[str, ...]) -> None:
    done = CliRunner().invoke(cli, arguments, prog_name="tentaculo")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "Usage: tentaculo" in done.stderr


# -- check, init, token ------------------------------------------------------------------------------------------


async def test_check_prints_every_fault_and_no_secret(tmp_path: Path) -> None:
    write_config(tmp_path, FAULTY)
    done = await run(tmp_path, "check")
    assert done.code == 1
    assert len(done.out.splitlines()) == len(FAULTS)
    assert all(f"\n{fault}" in f"\n{done.out}" for fault in FAULTS)
    assert SECRET not in done.out + done.err


async def test_check_says_what_will_be_served(tmp_path: Path) -> None:
    done = await run(tmp_path, "check", "-c", str(ROOT / "docker/vx11.toml"), TENTACULO_TOKEN=SECRET, TENTACULO_X="1")
    assert done.code == 0
    assert "is valid: 9 services, 44 routes" in done.out
    assert re.search(r"(?m)^  /madre/tasks +as /tasks$", done.out)
    assert "warning: TENTACULO_X is not the name of a key" in done.out
    assert SECRET not in done.out + done.err
    assert list(tmp_path.iterdir()) == [], "check makes nothing"


async def test_check_finds_an_apprise_address_that_cannot_work(tmp_path: Path) -> None:
    write_config(tmp_path, f"[services.madre]\nurl = 'http://h'\n[alerts.apprise]\nphone = 'nosuchkind://{SECRET}'\n")
    done = await run(tmp_path, "check")
    assert (done.code, done.out) == (1, "alerts.apprise.phone: is not an address that Apprise can use\n")


async def test_check_has_nothing_to_check_without_a_configuration(tmp_path: Path) -> None:
    done = await run(tmp_path, "check")
    assert done.code == 1
    assert "no tentaculo.toml" in done.out
    services = '{"madre": {"url": "http://h"}}'
    assert (await run(tmp_path, "check", TENTACULO_SERVICES=services)).code == 0


async def test_init_writes_the_starter_once(tmp_path: Path) -> None:
    assert (await run(tmp_path, "init")).code == 0
    file = tmp_path / "tentaculo.toml"
    assert file.read_text(encoding="utf-8") == example_text()
    assert load(file, {}).warnings == ()
    file.write_text("# mine")
    done = await run(tmp_path, "init")
    assert done.code == 2
    assert "already exists" in done.err
    assert file.read_text() == "# mine"
    done = await run(tmp_path, "init", "nowhere/x.toml")
    assert done.code == 2
    assert "cannot be written" in done.err


async def test_token_new_shows_a_token_and_the_line_to_paste(tmp_path: Path) -> None:
    done = await run(tmp_path, "token", "new")
    assert done.code == 0
    token = re.search(r"(?m)^  (tl_\S+)$", done.out)
    assert token
    assert f'tokens = ["{hash_token(token[1])}"]' in done.out
    assert list(tmp_path.iterdir()) == []


# -- serve -------------------------------------------------------------------------------------------------------


async def test_serve_lists_every_fault_and_ends_with_2(tmp_path: Path) -> None:
    write_config(tmp_path, FAULTY)
    done = await run(tmp_path, "serve")
    assert (done.code, done.out) == (2, "")
    assert f"has {len(FAULTS)} faults" in done.err
    assert all(f"\n  {fault}" in done.err for fault in FAULTS)
    assert SECRET not in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["tentaculo.toml"]


@pytest.mark.parametrize("command", [("serve",), ("truth",), ("db", "upgrade")], ids=" ".join)
async def test_a_file_that_is_missing_is_a_fault_everywhere(tmp_path: Path, command: tuple[str, ...]) -> None:
    done = await run(tmp_path, *command, "-c", "nowhere.toml")
    assert done.code == 2
    assert "nowhere.toml: cannot be read: No such file" in done.err


async def test_serve_makes_a_token_once_migrates_and_stops_when_told(tmp_path: Path, upstream: str) -> None:
    write_config(tmp_path, fleet(upstream))
    async with serving(tmp_path, "serve") as gateway:
        found = re.search(r"(?m)^  (tl_\S+)$", gateway.out)
        assert found
        token = found[1]
        assert f'curl -H "X-VX11-Token: {token}" {gateway.url}/madre/health' in gateway.out
        assert (await get(f"{gateway.url}/madre/x"))[0] == 401
        assert (await get(f"{gateway.url}/madre/x", "wrong"))[0] == 403
        status, body = await get(f"{gateway.url}/madre/x", token)
        assert (status, body) == (200, b'{"path": "/madre/x", "token": null}')
        assert (await get(f"{gateway.url}/status"))[0] == 200
        done = await gateway.stop()
    assert done.code == 0
    assert token not in done.err
    kept = tmp_path / "data/token"
    assert hash_token(token) in kept.read_text()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    with closing(sqlite3.connect(tmp_path / "data/tentaculo.db")) as connection:
        tables = {name for (name,) in connection.execute("select name from sqlite_master")}
    assert {"copilot_runtime_services", "tentaculo_schema_version"} <= tables

    async with serving(tmp_path, "serve") as gateway:
        assert "tl_" not in gateway.out
        assert "X-VX11-Token: <token>" in gateway.out
        assert (await get(f"{gateway.url}/madre/x", token))[0] == 200


@pytest.mark.parametrize("shares", [False, True])
async def test_a_plain_token_is_accepted_shared_only_on_request_and_never_shown(
    tmp_path: Path, upstream: str, shares: bool
) -> None:
    write_config(tmp_path, fleet(upstream))
    variables = {"TENTACULO_AUTH_SHARE_TOKEN": "true"} if shares else {}
    async with serving(tmp_path, "serve", VX11_GATEWAY_TOKEN=SECRET, **variables) as gateway:
        status, body = await get(f"{gateway.url}/madre/x", SECRET)
        assert status == 200
        assert (SECRET.encode() in body) is shares
        done = await gateway.stop()
    assert SECRET not in done.out + done.err
    assert not (tmp_path / "data/token").exists()


async def test_a_token_that_cannot_be_kept_serves_until_the_stop(tmp_path: Path, upstream: str) -> None:
    write_config(tmp_path, fleet(upstream))
    async with serving(tmp_path, "serve", TENTACULO_AUTH_TOKEN_FILE="/proc/nowhere/token") as gateway:
        found = re.search(r"(?m)^  (tl_\S+)$", gateway.out)
        assert found
        assert (await get(f"{gateway.url}/madre/x", found[1]))[0] == 200
        done = await gateway.stop()
    assert "this token is valid until the gateway stops" in done.err
    assert "It is shown only once.\n" in done.out
    assert "serves 1 service." in done.out


async def test_a_taken_port_ends_with_3_and_says_which(tmp_path: Path, upstream: str) -> None:
    write_config(tmp_path, fleet(upstream))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = await run(tmp_path, "serve", "--port", str(port), TENTACULO_TOKEN="t")
    assert done.code == 3
    assert f"Error: cannot listen on 127.0.0.1:{port}: Address already in use" in done.err
    assert "Traceback" not in done.err


async def test_the_command_lines_address_wins_over_listen(tmp_path: Path, upstream: str) -> None:
    write_config(tmp_path, fleet(upstream).replace("port = 0", 'listen = ["127.0.0.1:1"]'))
    async with serving(tmp_path, "serve", "--host", "localhost", "--port", "0", TENTACULO_TOKEN="t") as gateway:
        assert (await get(f"{gateway.url}/health"))[0] == 200


async def test_a_database_that_cannot_be_opened_leaves_the_proxy_working(tmp_path: Path, upstream: str) -> None:
    (tmp_path / "x.db").write_text("this is no database, and long enough for SQLite to notice that it is none" * 20)
    write_config(tmp_path, fleet(upstream) + '[database]\nurl = "sqlite:///x.db"\n')
    async with serving(tmp_path, "serve", TENTACULO_TOKEN="t") as gateway:
        assert (await get(f"{gateway.url}/madre/x", "t"))[0] == 200
        status, body = await get(f"{gateway.url}/readyz")
        assert status == 200
        assert b"x.db" in body
        done = await gateway.stop()
    assert '"database schema not upgraded"' in done.err
    assert str(tmp_path) not in done.err.splitlines()[0]


async def test_no_migration_where_the_configuration_says_so(tmp_path: Path, upstream: str) -> None:
    write_config(tmp_path, fleet(upstream) + "[database]\nauto_upgrade = false\n")
    async with serving(tmp_path, "serve", TENTACULO_TOKEN="t") as gateway:
        assert (await get(f"{gateway.url}/madre/x", "t"))[0] == 200
    assert not (tmp_path / "data/tentaculo.db").exists()


# -- demo --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("command", "file"), [("serve", ""), ("demo", FAULTY)], ids=["serve", "demo"])
async def test_the_demonstration_answers_the_curl_line_it_prints(tmp_path: Path, command: str, file: str) -> None:
    if file:
        write_config(tmp_path, file)
    before = sorted(tmp_path.iterdir())
    async with serving(tmp_path, command, "--port", "0") as gateway:
        assert ("demonstration" in gateway.out) is (command == "serve")
        call = re.search(r'curl -H "X-VX11-Token: (\S+)" (\S+)', gateway.out)
        assert call
        status, body = await get(call[2], call[1])
        assert status == 200
        assert b"task" in body
        assert (await get(call[2]))[0] == 401
        done = await gateway.stop()
    assert done.code == 0
    assert "Warning" not in done.err
    assert sorted(tmp_path.iterdir()) == before, "nothing is kept"


async def test_the_demonstrations_port_may_be_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = await run(tmp_path, "demo", TENTACULO_SERVER_PORT=str(port))
    assert done.code == 3
    assert f"cannot listen on 127.0.0.1:{port}" in done.err


# -- db, truth ---------------------------------------------------------------------------------------------------


async def test_the_database_goes_up_and_down(tmp_path: Path) -> None:
    write_config(tmp_path, '[database]\nurl = "sqlite:///a/b/x.db"\n')
    assert (await run(tmp_path, "db", "current")).out == "The database is at no revision.\n"
    assert not (tmp_path / "a").exists()
    done = await run(tmp_path, "db", "upgrade")
    assert done.code == 0, done.err
    assert re.fullmatch(r"The database is at revision \w+\.\n", done.out)
    assert (await run(tmp_path, "db", "current")).out == done.out
    assert (tmp_path / "a/b/x.db").exists()
    down = await run(tmp_path, "db", "downgrade", "base")
    assert (down.code, down.out) == (0, "The database is at no revision.\n")


async def test_the_environments_database_is_the_one_that_goes_up(tmp_path: Path) -> None:
    write_config(tmp_path, '[database]\nurl = "sqlite:///x.db"\n')
    assert (await run(tmp_path, "db", "upgrade", TENTACULO_DATABASE_URL="sqlite:///y.db")).code == 0
    assert (tmp_path / "y.db").exists()
    assert not (tmp_path / "x.db").exists()


async def test_a_database_that_cannot_be_upgraded_ends_with_3_and_no_secret(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    url = f"postgresql://u:{SECRET}@127.0.0.1:{port}/x"
    done = await run(tmp_path, "db", "upgrade", TENTACULO_DATABASE_URL=url)
    assert done.code == 3
    assert done.err.startswith("Error: ")
    assert len(done.err.splitlines()) == 1
    assert SECRET not in done.err


async def test_truth_is_0_when_all_is_well_and_1_when_not(tmp_path: Path, upstream: str) -> None:
    write_config(tmp_path, fleet(upstream) + '[services.off]\nurl = "http://127.0.0.1:1"\nenabled = false\n')
    done = await run(tmp_path, "truth")
    assert done.code == 1, "there is no table yet"
    assert "Warning: the table was not brought up to date" in done.err
    assert (await run(tmp_path, "db", "upgrade")).code == 0
    done = await run(tmp_path, "truth", "--output", "reports/truth.md")
    assert done.code == 0, done.err
    assert "1 OK, 0 BROKEN, 1 UNKNOWN of 2" in done.out
    assert "| madre |" in (tmp_path / "reports/truth.md").read_text(encoding="utf-8")
    with closing(sqlite3.connect(tmp_path / "data/tentaculo.db")) as connection:
        rows = dict(connection.execute("select service_name, status from copilot_runtime_services"))
    assert rows["madre"] == "OK"
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    done = await run(tmp_path, "truth", TENTACULO_SERVICES_MADRE_URL=f"http://127.0.0.1:{port}")
    assert done.code == 1
    assert "1 BROKEN" in done.out
    assert (tmp_path / "VX11_RUNTIME_TRUTH_REPORT.md").exists()


async def test_truth_without_a_fleet_is_a_fault(tmp_path: Path) -> None:
    done = await run(tmp_path, "truth")
    assert done.code == 2
    assert "no services are configured" in done.err


# -- what is loaded ----------------------------------------------------------------------------------------------


async def modules(folder: Path, program: str) -> set[str]:
    code = f"import sys\ntry:\n  {program}\nexcept SystemExit:\n  pass\nprint('modules', *sys.modules)"
    done = await end(await start(folder, "-c", code))
    assert done.code == 0, done.err
    return set(done.out.splitlines()[-1].split()[1:])


async def test_serve_never_loads_alembic(tmp_path: Path) -> None:
    loaded = await modules(tmp_path, "import tentaculo.cli.main, tentaculo.cli.serve, tentaculo.gateway.process")
    assert "aiohttp.web" in loaded
    assert "alembic" not in loaded
    assert "tentaculo.demo" not in loaded


# Each was found to take 10 to 1,000 KB of memory, or a millisecond of the start and more.
UNUSED = """
aiohttp.client aiohttp.connector aiohttp_jinja2 alembic apprise attr.validators csv difflib http.server idna
importlib.metadata importlib.resources jinja2 msgspec.inspect multiprocessing pg8000 prometheus_client re2 sqlalchemy.ext
sqlalchemy.connectors sqlalchemy.dialects.postgresql sqlalchemy.orm statistics structlog.stdlib xml yaml zipfile zoneinfo
tentaculo.cli.check tentaculo.cli.config_commands tentaculo.cli.event_commands tentaculo.cli.incident_commands
tentaculo.cli.status_commands tentaculo.cli.token_commands tentaculo.config.changing tentaculo.config.effective
tentaculo.demo tentaculo.gateway.administration tentaculo.gateway.early_warnings tentaculo.gateway.precursor_reports
tentaculo.gateway.stored_pages tentaculo.gateway.target_rotation tentaculo.insight tentaculo.store.changes
tentaculo.store.incident_search tentaculo.store.migrate tentaculo.store.precursors tentaculo.web.admin_openapi
tentaculo.web.badges tentaculo.web.documents tentaculo.web.languages tentaculo.web.metrics tentaculo.web.rendering
tentaculo.web.service_page tentaculo.web.sign_in tentaculo.web.status_page tentaculo.web.statuspage_api tentaculo.workers
"""


async def test_an_idle_gateway_loads_no_more_than_it_uses(aiohttp_server: AiohttpServer, tmp_path: Path) -> None:
    """A module whose code has not run, as `library_imports` does it, is not loaded."""
    service = web.Application()

    async def respond(_request: web.Request) -> web.Response:
        return web.Response(text="it")

    service.router.add_get("/web", respond)
    server = await aiohttp_server(service)
    write_config(tmp_path, f'[services.web]\nurl = "{server.make_url("/")}"\nroutes = [{{ prefix = "/web" }}]\n')
    program = """
import sys
from tentaculo.__main__ import main
sys.argv[1:] = ["serve", "--port", "0"]
try:
    main()
except SystemExit:
    pass
print("modules", *(name for name, module in sys.modules.items() if module is not None
    and getattr(vars(module).get("__getattr__"), "__module__", "") != "tentaculo.library_imports"))
"""
    process = await start(tmp_path, "-c", program, TENTACULO_TOKEN=40 * "t")
    try:
        gateway = Gateway(process, await asyncio.wait_for(_greeting(process), WAIT))
        assert await get(f"{gateway.url}/web", 40 * "t") == (200, b"it")
    finally:
        process.send_signal(signal.SIGTERM)
        done = await end(process)
    loaded, unused = set(done.out.splitlines()[-1].split()[1:]), set(UNUSED.split())
    assert {"aiohttp.web", "sqlalchemy", "tentaculo.gateway.gateway"} <= loaded
    assert sorted(loaded & unused) == []
    for module in unused:
        assert find_spec(module.partition(".")[0]) is None or find_spec(module), f"there is no {module}"


@pytest.mark.parametrize("arguments", [["check"], ["db", "upgrade"], ["token", "new"], ["--help"]], ids=" ".join)
async def test_the_small_commands_never_load_the_server(tmp_path: Path, arguments: list[str]) -> None:
    program = f"from tentaculo.__main__ import main; sys.argv[1:] = {arguments!r}; main()"
    loaded = await modules(tmp_path, program)
    assert "tentaculo.cli.main" in loaded
    assert "aiohttp" not in loaded


# -- descriptors -------------------------------------------------------------------------------------------------


async def test_a_start_with_few_descriptors_says_so_and_refuses_what_it_cannot_serve(
    tmp_path: Path, upstream: str
) -> None:
    write_config(tmp_path, fleet(upstream) + "[limits]\nconnections = 5000\n")
    async with serving(tmp_path, "serve", descriptors="256") as gateway:
        port = int(gateway.url.rpartition(":")[2])
        clients = [await asyncio.open_connection("127.0.0.1", port) for _ in range(150)]
        try:
            for _, writer in clients:
                writer.write(b"GET /livez HTTP/1.1\r\nHost: h\r\n\r\n")
            heads = [await asyncio.wait_for(_first_line(reader), WAIT) for reader, _ in clients]
        finally:
            for _, writer in clients:
                writer.transport.abort()
        done = await gateway.stop()
    assert (heads.count(b"HTTP/1.1 200 OK\r\n"), heads.count(b"HTTP/1.1 503 Service Unavailable\r\n")) == (96, 54)
    assert (
        "Warning: limits.connections is 5000, but 256 file descriptors are enough for 96 client connections" in done.err
    )
    assert done.err.count("connection limit reached") == 1


async def _first_line(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readline()
    except ConnectionResetError:
        # The gateway closes a refused connection without reading: its response may be lost with the request.
        return b"HTTP/1.1 503 Service Unavailable\r\n"
