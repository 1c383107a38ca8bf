"""Real PostgreSQL servers, each in a folder of its own, on a Unix socket only, unprivileged: one for all tests of a run."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path

import pg8000.dbapi
import pytest

from tests.support.needs import need
from tests.support.processes import kill_family

_PORT = 5432  # Names the socket file only.
_ROOM = 2**30
"""Bytes: the server's own files, a few databases of 8 MB, and its log of changes."""


FAST = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "max_wal_size": "128MB",
}
"""Settings of a server that need not survive anything."""


class Server:
    """A server. `database` creates a database for one test."""

    def __init__(self, folder: Path, binaries: Path, settings: Mapping[str, str]) -> None:
        """`folder` is empty, and the user that runs the server may write to it."""
        self._folder = folder
        self._binaries = binaries
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._socket = folder / f".s.PGSQL.{_PORT}"
        self._numbers = count(1)
        self._templates: set[str] = set()

    def start(self) -> None:
        """Start it, also after a `kill`; returns once it accepts connections."""
        user, data = _user(), self._folder / "data"
        if not data.exists():
            initdb = self._binaries / "initdb"
            _run(user, initdb, "-D", data, "-U", "tests", "-A", "trust", "-E", "UTF8", "--no-sync")
        arguments = ["-D", data, "-k", self._folder, "-c", "listen_addresses=", "-p", str(_PORT)]
        for name, value in self._settings.items():
            arguments += ["-c", f"{name}={value}"]
        self._process = _popen(user, self._binaries / "postgres", *arguments)
        _await_ready(self, self._process)

    def stop(self) -> None:
        """End it in order, if it runs; one that does not end is killed, so that no test leaves it behind."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        self._process = None

    def kill(self) -> None:
        """SIGKILL to the server and all its processes at once. What it had in memory is lost."""
        assert self._process is not None
        kill_family(self._process.pid)
        self._process.wait()
        self._process = None

    def connect(self, database: str = "postgres") -> pg8000.dbapi.Connection:
        socket = str(self._socket)
        return pg8000.dbapi.connect("tests", unix_sock=socket, database=database, timeout=30, ssl_context=False)

    def url(self, database: str) -> str:
        return f"postgresql://tests@/{database}?unix_sock={self._socket}"

    def execute(self, statement: str) -> None:
        with closing(self.connect()) as connection:
            connection.autocommit = True
            connection.cursor().execute(statement)

    def template(self, name: str, fill: Callable[[str], None]) -> str:
        """The name of a database to copy from. The first call creates it and passes its URL to `fill`."""
        if name not in self._templates:
            self.execute(f"CREATE DATABASE {name}")
            fill(self.url(name))
            self._templates.add(name)
        return name

    @contextmanager
    def database(self, template: str = "template1") -> Iterator[str]:
        """The URL of a new copy of `template`, by default an empty database. It is dropped afterwards."""
        name = f"test_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        try:
            yield self.url(name)
        finally:
            self.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """A running server. Where PostgreSQL is not installed, the test is skipped and the reason names it."""
    with running_server(FAST) as server:
        yield server


@contextmanager
def running_server(settings: Mapping[str, str]) -> Iterator[Server]:
    """A server of one's own, with `settings` beside PostgreSQL's defaults. Skips the test where it is not installed."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    found = shutil.which("postgres")
    need(folders or found, "PostgreSQL (Debian: postgresql)")
    binaries = folders[-1] if folders else Path(str(found)).resolve().parent
    # A Unix socket's path may have 107 bytes, which pytest's own long folder names exceed.
    folder = Path(tempfile.mkdtemp(prefix="tlpg", dir=_folder_in_memory()))
    if (user := _user()) is not None:
        os.chown(folder, user.pw_uid, user.pw_gid)
    server = Server(folder, binaries, settings)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _folder_in_memory() -> str | None:
    """A folder in memory with room for the server. Creating a database on a disk takes five times as long."""
    memory = Path("/dev/shm")
    has_room = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free >= _ROOM
    return str(memory) if has_room else None


def _user() -> pwd.struct_passwd | None:
    """The user that runs the server: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise AssertionError("this machine has neither a user postgres nor a user nobody")


def _popen(user: pwd.struct_passwd | None, *command: object) -> subprocess.Popen[bytes]:
    words = [str(word) for word in command]
    quiet = subprocess.DEVNULL
    return subprocess.Popen(
        words,
        stdin=quiet,
        stdout=quiet,
        stderr=quiet,
        cwd="/",
        user=None if user is None else user.pw_uid,
        group=None if user is None else user.pw_gid,
        extra_groups=None if user is None else [],
    )


def _run(user: pwd.struct_passwd | None, *command: object) -> None:
    assert _popen(user, *command).wait(60) == 0, f"{command[0]} failed"


def _await_ready(server: Server, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while True:
        assert process.poll() is None, "PostgreSQL ended before it accepted a connection"
        try:
            server.connect().close()
            return
        except pg8000.dbapi.Error:
            assert time.monotonic() < deadline, "PostgreSQL did not start in time"
            time.sleep(0.05)
