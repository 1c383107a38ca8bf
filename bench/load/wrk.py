"""wrk, for requests as fast as they are answered."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from bench import traffic
from bench.process import BenchError

_RATE = re.compile(r"Requests/sec:\s+([\d.]+)")
_BAD = re.compile(r"Non-2xx or 3xx responses: (\d+)")
_SOCKETS = re.compile(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)")
_POST = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{{"text":"' .. string.rep("x", {size} - 11) .. '"}}'
"""
_VARIED = """
local number = 0
function request()
  number = number + 1
  return wrk.format("GET", "{path}?number=" .. number)
end
"""
_EVENTS = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{body}'
"""


@dataclass(frozen=True, slots=True)
class Rate:
    """What wrk found."""

    per_second: float
    errors: int
    """Answers other than 2xx and 3xx, and connections that failed."""


def command(url: str, *, connections: int, seconds: float, folder: Path) -> list[str]:
    """The command line. Some paths are asked for in a way of their own: by POST, or with another query each time."""
    argv = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "10s"]
    for name, value in traffic.HEADERS:
        argv += ["-H", f"{name}: {value}"]
    _, _, path, query, _ = urlsplit(url)
    if path == traffic.INGEST:
        number = int(query.removeprefix("events="))
        body = traffic.EVENT if number == 1 else f"[{','.join([traffic.EVENT] * number)}]"
        argv += _script(folder / f"events{number}.lua", _EVENTS.format(body=body))
    elif path == traffic.POST:
        argv += _script(folder / "post.lua", _POST.format(size=traffic.POST_SIZE))
    elif path == traffic.VARIED:
        argv += _script(folder / "varied.lua", _VARIED.format(path=path))
    return [*argv, url]


def _script(file: Path, text: str) -> list[str]:
    file.write_text(text)
    return ["-s", str(file)]


def parse(output: str) -> Rate:
    """Read wrk's report. Raises `BenchError` if it is none."""
    rate = _RATE.search(output)
    if rate is None:
        raise BenchError(f"wrk said: {output[-300:]!r}")
    bad, sockets = _BAD.search(output), _SOCKETS.search(output)
    errors = (int(bad[1]) if bad else 0) + (sum(map(int, sockets.groups())) if sockets else 0)
    return Rate(float(rate[1]), errors)
