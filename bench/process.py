"""Processes that are pinned to a core, and ended by their id."""

from __future__ import annotations

import os
import resource
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

START_TIMEOUT = 60.0
STOP_TIMEOUT = 10.0


class BenchError(Exception):
    """Something that the benchmark needs did not work; one sentence."""


@dataclass(frozen=True, slots=True)
class Process:
    """A program that was started here."""

    popen: subprocess.Popen[bytes]
    output: Path
    """What it prints, standard output and error together."""

    @property
    def pid(self) -> int:
        """Its id; taskset turns into the program itself."""
        return self.popen.pid

    def said(self) -> str:
        """The end of what it printed."""
        return self.output.read_text(errors="replace")[-1500:]

    def stop(self) -> None:
        """SIGTERM, and SIGKILL for one that does not listen."""
        with suppress(ProcessLookupError):
            self.popen.terminate()
        try:
            self.popen.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()


def start(
    argv: Sequence[str], *, core: int | None, folder: Path, name: str, env: Mapping[str, str] | None = None
) -> Process:
    """Start `argv` in `folder`, on one core or, with None, on any; what it prints goes to a file there."""
    output = folder / f"{name}.out"
    with output.open("wb") as sink:
        popen = subprocess.Popen(  # noqa: S603 - the benchmark's own commands
            argv if core is None else pinned(argv, core),
            cwd=folder,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
        )
    return Process(popen, output)


def pinned(argv: Sequence[str], core: int) -> list[str]:
    """`argv` on one core."""
    return ["taskset", "-c", str(core), *argv]


def free_ports() -> Iterator[int]:
    """Ports that are free, below those that the kernel gives to outgoing connections; each is given once."""
    for port in range(20000 + os.getpid() % 5000, 32000):
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        yield port
    raise BenchError("there is no free port below 32000")


def first_answer(
    process: Process, port: int, request: bytes, expected: bytes | tuple[bytes, ...] = b"HTTP/1.1 200"
) -> float:
    """Ask until the answer begins as `expected`, or as one of these; the seconds that took.

    Raises `BenchError` for a process that ends or never does.
    """
    started = time.monotonic()
    answer = b""
    while (took := time.monotonic() - started) < START_TIMEOUT:
        if process.popen.poll() is not None:
            break
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 5.0) as client:
            client.sendall(request)
            answer = client.recv(4096)
            if answer.startswith(expected):
                return time.monotonic() - started
        time.sleep(0.005)
    name = Path(process.output).stem
    raise BenchError(f"{name} gave no good answer within {took:.0f} s; last: {answer[:200]!r}\n{process.said()}")


def raise_descriptor_limit() -> int:
    """Allow as many descriptors as the system lets; how many."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most
