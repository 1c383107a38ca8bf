"""A real PostgreSQL server for tests: its own data folder, a Unix socket only, run by an unprivileged user."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path

import pg8000.dbapi

from tests.support.needs import need

_PORT = 5432  # Names the socket file only.


class Server:
    """A running server. `database` makes an empty database of its own for a test."""

    def __init__(self, folder: Path) -> None:
        self._socket = folder / f".s.PGSQL.{_PORT}"
        self._numbers = count(1)

    def connect(self, database: str = "postgres") -> pg8000.dbapi.Connection:
        socket = str(self._socket)
        return pg8000.dbapi.connect("tests", unix_sock=socket, database=database, timeout=30, ssl_context=False)

    def url(self, database: str) -> str:
        return f"postgresql://tests@/{database}?unix_sock={self._socket}"

    def execute(self, statement: str) -> None:
        with closing(self.connect()) as connection:
            connection.autocommit = True
            connection.cursor().execute(statement)

    @contextmanager
    def database(self) -> Iterator[str]:
        """The address of a new, empty database; it is gone afterwards."""
        name = f"test_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name}")
        try:
            yield self.url(name)
        finally:
            self.execute(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def running_server() -> Iterator[Server]:
    """Start a server and end it; the test is skipped by name where PostgreSQL is not installed."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    found = shutil.which("postgres")
    need(folders or found, "PostgreSQL (Debian: postgresql)")
    binaries = folders[-1] if folders else Path(str(found)).resolve().parent
    # The path of a Unix socket has 107 bytes at most, so it is no place for pytest's own long folders.
    folder = Path(tempfile.mkdtemp(prefix="tlpg"))
    user = _user()
    if user is not None:
        os.chown(folder, user.pw_uid, user.pw_gid)
    server = None
    try:
        data = folder / "data"
        _run(user, binaries / "initdb", "-D", data, "-U", "tests", "-A", "trust", "-E", "UTF8", "--no-sync")
        arguments = ["-D", data, "-k", folder, "-c", "listen_addresses=", "-p", str(_PORT)]
        for setting in ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "autovacuum=off"):
            arguments += ["-c", setting]
        server = _popen(user, binaries / "postgres", *arguments)
        running = Server(folder)
        _await_ready(running, server)
        yield running
    finally:
        if server is not None:
            server.send_signal(signal.SIGINT)
            server.wait(20)
        shutil.rmtree(folder, ignore_errors=True)


def _user() -> pwd.struct_passwd | None:
    """Whom to run as: PostgreSQL refuses root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise AssertionError("neither postgres nor nobody is a user here")


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
        assert process.poll() is None, "PostgreSQL ended at once"
        try:
            server.connect().close()
            return
        except pg8000.dbapi.Error:
            assert time.monotonic() < deadline, "PostgreSQL did not start in time"
            time.sleep(0.05)
