"""The test bed: starts proxies, asks them, and notes the commands."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp
from typing import IO, cast

from bench import machine, process, traffic
from bench.load import wrk
from bench.options import Options
from bench.peers.peer import ROOT, Peer, Site
from bench.process import BenchError, Process


@dataclass(frozen=True, slots=True)
class Proxy:
    """A peer that answers; or the upstream itself, which has no process."""

    peer: Peer
    site: Site
    process: Process | None
    seconds_to_answer: float = 0.0

    def port(self, path: str) -> int:
        """Where to ask for `path`."""
        if self.process is not None:
            return self.site.port
        return self.site.live if path.startswith(traffic.LIVE) else self.site.web

    def cpu_seconds(self) -> float:
        """Processor time so far."""
        return machine.family_cpu_seconds(self.process.pid) if self.process else 0.0

    def await_store(self) -> None:
        """Return when it has made its tables, behind its first response: a query of events waits for them."""
        if self.process is not None and self.peer.has_events and self.peer.hello is None:
            # Version 8.0.0 has no such path, and an older checkout neither.
            known = (b"HTTP/1.1 200", b"HTTP/1.1 404")
            process.first_answer(self.process, self.site.port, traffic.head("GET", "/events?limit=1"), known)

    def stop(self) -> None:
        """End it, and remove its files."""
        if self.process is not None:
            self.process.stop()
        shutil.rmtree(self.site.folder, ignore_errors=True)


@dataclass
class Bed:
    """What a case's measuring works with."""

    options: Options
    web: int
    live: int
    folder: Path
    ports: Iterator[int]
    commands: dict[str, list[str]] = field(default_factory=dict)
    _kept: dict[str, Proxy] = field(default_factory=dict)

    def fresh(self, peer: Peer, routes: int = 0) -> Proxy:
        """A proxy of one's own, that answers; the caller stops it. Raises `BenchError`."""
        folder = Path(mkdtemp(prefix=f"{peer.name}-", dir=self.folder))
        site = Site(next(self.ports), self.web, self.live, folder, routes)
        if peer.prepare is None:
            return Proxy(peer, site, None)
        command = peer.prepare(site)
        self._note(peer.name, command.argv, self.options.proxy_core, command.env)
        started = process.start(
            command.argv, core=self.options.proxy_core, folder=folder, name=peer.name, env=command.env
        )
        try:
            hello, response = peer.hello or (traffic.head("GET", traffic.SMALL), b"HTTP/1.1 200")
            took = process.first_answer(started, site.port, hello, response)
        except BaseException:
            started.stop()
            raise
        return Proxy(peer, site, started, took)

    def proxy(self, peer: Peer) -> Proxy:
        """The case's own proxy of this peer, started and warmed up at first."""
        if peer.name not in self._kept:
            self._kept[peer.name] = proxy = self.fresh(peer)
            # Another process makes the tables, for seconds on a slow machine, and on the same core.
            proxy.await_store()
            self.wrk(proxy, seconds=1, note=False)
        return self._kept[peer.name]

    def stop_all(self) -> None:
        """End the case's proxies."""
        for proxy in self._kept.values():
            proxy.stop()
        self._kept.clear()

    # -- load --------------------------------------------------------------------------------------------------

    def wrk(
        self,
        proxy: Proxy,
        path: str = traffic.SMALL,
        *,
        connections: int = 32,
        seconds: float | None = None,
        note: bool = True,
    ) -> wrk.Rate:
        """Requests as fast as they are answered; POST for the path that takes it."""
        seconds = seconds or self.options.seconds
        url = f"http://127.0.0.1:{proxy.port(path)}{path}"
        argv = wrk.command(url, connections=connections, seconds=seconds, folder=self.folder)
        return wrk.parse(self._run("wrk", argv, seconds, note=note))

    def load(
        self,
        name: str,
        *arguments: object,
        seconds: float | None = None,
        python: str = sys.executable,
        package: str = "bench.load",
    ) -> dict[str, float]:
        """Run one of the load's own programs with the interpreter `python`; what it found.

        A minute after `seconds` it is ended.
        """
        seconds = seconds or self.options.seconds
        argv = [python, "-m", f"{package}.{name}", *map(str, arguments)]
        return cast(dict[str, float], json.loads(self._run(name, argv, seconds)))

    @contextmanager
    def holding(self, proxy: Proxy, count: int) -> Iterator[None]:
        """While this lasts, `count` idle WebSockets go through the proxy. Raises `BenchError` if one is lost."""
        argv = [sys.executable, "-m", "bench.load.websocket", str(proxy.port(traffic.ECHO)), "hold", str(count)]
        self._note("sockets", argv, self.options.load_core)
        with subprocess.Popen(  # noqa: S603 - the benchmark's own command
            process.pinned(argv, self.options.load_core), cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as holder:
            try:
                _expect(cast(IO[bytes], holder.stdout), count)
                yield
                cast(IO[bytes], holder.stdin).close()
                _expect(cast(IO[bytes], holder.stdout), count)
            finally:
                holder.kill()

    def _run(self, name: str, argv: list[str], seconds: float, *, note: bool = True) -> str:
        if note:
            self._note(name, argv, self.options.load_core)
        try:
            done = subprocess.run(  # noqa: S603 - the benchmark's own commands
                process.pinned(argv, self.options.load_core),
                cwd=ROOT,
                capture_output=True,
                text=True,
                timeout=seconds + 60,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise BenchError(f"{name} had not ended after {seconds + 60:.0f} s") from None
        if done.returncode:
            raise BenchError(f"{name}: {(done.stderr.strip().splitlines() or ['failed'])[-1]}")
        return done.stdout

    def _note(self, name: str, argv: Sequence[str], core: int, env: Mapping[str, str] | None = None) -> None:
        whole = [*(f"{key}={value}" for key, value in (env or {}).items()), *process.pinned(argv, core)]
        self.commands.setdefault(name, whole)


def _expect(stream: IO[bytes], count: int) -> None:
    line = stream.readline()
    if not line or json.loads(line)["open"] != count:
        raise BenchError(f"not all of {count} WebSockets are open: {line!r}")
