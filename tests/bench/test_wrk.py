"""wrk's report and its command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import traffic
from bench.load.wrk import Rate, command, parse
from bench.process import BenchError

_REPORT = """Running 2s test @ http://127.0.0.1:1/api/k1
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency    10.63ms    8.64ms  50.19ms   85.08%
  6813 requests in 2.01s, 8.53MB read
{more}Requests/sec:   3396.62
Transfer/sec:      4.25MB
"""


def test_a_good_report() -> None:
    assert parse(_REPORT.format(more="")) == Rate(3396.62, 0)


def test_every_kind_of_error_counts() -> None:
    more = "  Socket errors: connect 1, read 2, write 3, timeout 4\n  Non-2xx or 3xx responses: 90\n"
    assert parse(_REPORT.format(more=more)) == Rate(3396.62, 100)


def test_no_report() -> None:
    with pytest.raises(BenchError, match="unable to connect"):
        parse("unable to connect to 127.0.0.1:1 Connection refused\n")


def test_the_load_sends_nine_headers_and_four_kilobytes(tmp_path: Path) -> None:
    argv = command(f"http://127.0.0.1:1{traffic.POST}", connections=8, seconds=2.4, folder=tmp_path)
    assert argv.count("-H") + 1 == 9  # wrk adds Host
    assert {"-c8", "-d2s"} <= set(argv)
    assert f"{traffic.POST_SIZE} - 11" in (tmp_path / "post.lua").read_text()
    assert len('{"text":""}') == 11
    assert traffic.head("GET", "/").count(b"\r\n") == 1 + 9 + 1


def test_another_target_each_time(tmp_path: Path) -> None:
    argv = command(f"http://127.0.0.1:1{traffic.VARIED}", connections=8, seconds=1, folder=tmp_path)
    script = tmp_path / "varied.lua"
    assert argv[argv.index("-s") + 1] == str(script)
    assert f'"{traffic.VARIED}?number=" .. number' in script.read_text()
