"""What is written to the log, in both formats, and that a caller that logs never waits and never fails."""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
import re
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from io import StringIO
from typing import Any

import pytest
import structlog

from tentaculo.config.operation import LogSettings
from tentaculo.config.reader import read
from tentaculo.telemetry import logging as logging_setup
from tentaculo.telemetry.logging import LineWriter
from tentaculo.telemetry.request_log import AccessLine, RequestRecord, access_logger, utc_stamp

CONTROLS = "\r\n\x00\x07\x08\x1b[2J\x7f\x85\x9b31m\u2028\u202e"
ROTATION_KEYS = {"target", "probability", "reward"}
PHASE_KEYS = {"queue_ms", "connect_ms", "first_byte_ms", "body_ms"}
ACCESS_KEYS = {
    "timestamp",
    "level",
    "event",
    "method",
    "path",
    "status",
    "ms",
    "service",
    "peer",
    "request_id",
    "received",
    "sent",
}


class Terminal(StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@dataclass
class Output:
    """A log that is set up, and what came out of it."""

    stream: StringIO
    writer: LineWriter

    @property
    def text(self) -> str:
        """Everything so far; nothing can be logged afterwards."""
        self.writer.close()
        return self.stream.getvalue()

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The same, each line as the JSON it is."""
        return [json.loads(line) for line in self.text.splitlines()]

    @property
    def line(self) -> dict[str, Any]:
        """The only line."""
        (only,) = self.lines
        return only


@pytest.fixture
def restored() -> Iterator[None]:
    """Puts back what `set_up` changes for the whole process."""
    root = logging.getLogger()
    handlers, level, configured = list(root.handlers), root.level, structlog.is_configured()
    config = structlog.get_config()
    yield
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    if configured:
        structlog.configure(**config)


SetUp = Callable[..., Output]


@pytest.fixture
def set_up(restored: None) -> Iterator[SetUp]:
    """Sets logging up: `set_up(format="console")`; keywords are those of [log]."""
    made: list[Output] = []

    def set_up(stream: StringIO | None = None, **config: Any) -> Output:
        stream = stream or StringIO()
        output = Output(stream, logging_setup.set_up(LogSettings(**{"format": "json", **config}), stream))
        made.append(output)
        return output

    yield set_up
    for output in made:
        output.writer.close()


def record(**changes: Any) -> RequestRecord:
    """One proxied request that went well, but for `changes`."""
    values: dict[str, Any] = {
        "method": "GET",
        "target": "/madre/tasks",
        "status": 200,
        "seconds": 0.0123,
        "peer": "127.0.0.1",
        "request_id": "abc123",
    }
    return RequestRecord(**{**values, **changes})


def until(condition: Callable[[], bool]) -> None:
    """Look until `condition` holds, in a thread that nobody else tells of it."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_line_of_json_holds_time_level_event_and_values(set_up: SetUp) -> None:
    output = set_up()
    structlog.get_logger().warning("health changed", service="madre", code=503)
    line = output.line
    assert line.pop("timestamp").endswith("Z")
    assert line == {"level": "warning", "event": "health changed", "service": "madre", "code": 503}


def test_the_level_is_kept(set_up: SetUp) -> None:
    output = set_up(level="warning")
    log = structlog.get_logger()
    for level in ("debug", "info", "warning", "error"):
        getattr(log, level)(level)
    assert [line["event"] for line in output.lines] == ["warning", "error"]


@pytest.mark.parametrize(
    ("stream", "config", "is_json"),
    [
        (StringIO, "auto", True),
        (Terminal, "auto", False),
        (Terminal, "json", True),
        (StringIO, "console", False),
    ],
)
def test_auto_is_console_on_a_terminal_only(set_up: SetUp, stream: type[StringIO], config: str, is_json: bool) -> None:
    output = set_up(stream(), format=config)
    structlog.get_logger().info("hello")
    assert output.text.startswith("{") is is_json


# -- text from clients -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize("value", [CONTROLS, [CONTROLS], {"key": CONTROLS}, {CONTROLS: 1}, ValueError(CONTROLS)])
def test_control_characters_are_escaped_in_values(set_up: SetUp, form: str, value: Any) -> None:
    output = set_up(format=form)
    structlog.get_logger().info("client says", text=value)
    text = output.text
    assert text.removesuffix("\n").isprintable()
    assert "client says" in text


@pytest.mark.parametrize("form", ["json", "console"])
def test_control_characters_are_escaped_in_the_event_itself(set_up: SetUp, form: str) -> None:
    output = set_up(format=form)
    structlog.get_logger().info(f"said {CONTROLS}")
    assert output.text.removesuffix("\n").isprintable()


def test_json_gives_back_what_was_escaped(set_up: SetUp) -> None:
    output = set_up()
    structlog.get_logger().info("client says", text=CONTROLS, word="añil 🐙")
    line = output.line
    assert (line["text"], line["word"]) == (CONTROLS, "añil 🐙")


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize(
    "value", ["\udce9", {"key": "\udce9"}, {"\udce9": 1}, {1: 2}, {(1, 2): 3}, 2**70, float("nan"), b"\xff", object()]
)
def test_no_value_makes_logging_fail(set_up: SetUp, form: str, value: Any) -> None:
    output = set_up(format=form)
    structlog.get_logger().info("odd", value=value, code=404)
    assert output.text.count("\n") == 1
    if form == "json":
        assert output.line["code"] == 404


# -- secrets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize(
    "key", ["token", "X_VX11_Token", "authorization", "Set-Cookie", "db_password", "client_secret", "tokens"]
)
def test_secrets_are_hidden_wherever_they_stand(set_up: SetUp, form: str, key: str) -> None:
    output = set_up(format=form)
    log = structlog.get_logger()
    log.info("flat", **{key: "sesame"})
    log.info("nested", headers={key: "sesame"})
    log.info("deep", requests=[{"headers": ({key: ["sesame"]},)}])
    text = output.text
    assert "sesame" not in text
    assert text.count(logging_setup.HIDDEN) == 3


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_ticket_is_hidden_in_any_text(set_up: SetUp, form: str) -> None:
    output = set_up(format=form)
    log = structlog.get_logger()
    log.info("flat", target="/ws?a=1&ticket=sesame&b=2", ticket="sesame")
    log.info("nested", targets=["GET /ws?ticket=sesame HTTP/1.1", {"at": "/ws;ticket=sesame\n"}])
    logging.getLogger("library").warning("cannot parse %r", b"/ws?ticket=sesame")
    try:
        raise ValueError("/ws?ticket=sesame")
    except ValueError:
        log.exception("failed")
    text = output.text
    assert "sesame" not in text
    assert text.count("ticket=***") >= 5
    assert "a=1&ticket=***&b=2" in text


def test_what_is_not_secret_is_left(set_up: SetUp) -> None:
    output = set_up()
    structlog.get_logger().info("event", items=({"name": "madre"}, 3), count=1)
    assert output.line["items"] == [{"name": "madre"}, 3]


# -- exceptions ------------------------------------------------------------------------------------------------------


def fail(token: str) -> None:
    """Fails while it holds a secret in a local variable."""
    raise RuntimeError(f"cannot go on: {CONTROLS}")


def test_an_exception_is_one_line_of_json(set_up: SetUp) -> None:
    output = set_up()
    try:
        fail("sesame")
    except RuntimeError:
        structlog.get_logger().exception("failed")
    (thrown,) = output.line["exception"]
    assert (thrown["exc_type"], thrown["exc_value"]) == ("RuntimeError", f"cannot go on: {CONTROLS}")
    assert thrown["frames"][-1]["name"] == "fail"
    assert output.text.removesuffix("\n").isprintable()


@pytest.mark.parametrize("form", ["json", "console"])
def test_local_variables_never_reach_the_log(set_up: SetUp, form: str) -> None:
    output = set_up(format=form)
    try:
        fail("ses" + "ame")
    except RuntimeError as error:
        structlog.get_logger().error("failed", exc_info=error)
    assert "RuntimeError" in output.text
    assert "sesame" not in output.text


def test_an_exception_on_a_terminal_cannot_drive_it_or_forge_a_line(set_up: SetUp) -> None:
    output = set_up(format="console")
    try:
        raise ValueError(f"odd{CONTROLS}\n2026-01-01 00:00:00 [info] all is well")
    except ValueError:
        structlog.get_logger().exception("failed")
    first, *others = output.text.removesuffix("\n").split("\n")
    assert "failed" in first
    assert "Traceback" in others[0]
    assert all(line.isprintable() and line.startswith("  ") for line in others)


# -- the standard module ---------------------------------------------------------------------------------------------


def test_libraries_log_the_same_way(set_up: SetUp) -> None:
    output = set_up()
    logging.getLogger("aiohttp.server").error("request of %s failed", "madre\x1b")
    logging.getLogger("aiohttp.server").info("not told")
    try:
        raise KeyError("k")
    except KeyError:
        logging.getLogger("asyncio").exception("task failed")
    first, second = output.lines
    assert (first["level"], first["event"], first["logger"]) == (
        "error",
        "request of madre\x1b failed",
        "aiohttp.server",
    )
    assert second["exception"][0]["exc_type"] == "KeyError"


async def test_the_event_loop_tells_its_own_failures_there(set_up: SetUp) -> None:
    output = set_up()
    asyncio.get_running_loop().call_exception_handler({"message": "odd\nthing"})
    assert (output.line["event"], output.line["logger"]) == ("odd\nthing", "asyncio")


def test_warnings_of_python_go_there_too(set_up: SetUp) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        output = set_up()
        warnings.warn("old and tired", DeprecationWarning, stacklevel=1)
        logging.captureWarnings(False)
    assert output.line["logger"] == "py.warnings"
    assert "old and tired" in output.line["event"]


@pytest.mark.parametrize(("level", "word"), [(logging.WARNING + 5, "warning"), (99, "critical")])
def test_a_library_may_have_levels_of_its_own(set_up: SetUp, level: int, word: str) -> None:
    output = set_up()
    logging.getLogger("x").log(level, "custom")
    assert (output.line["event"], output.line["level"]) == ("custom", word)


def test_a_faulty_call_of_a_library_is_logged_as_it_is(set_up: SetUp) -> None:
    output = set_up()
    logging.getLogger("x").warning("%d things", "no number")
    assert output.line["event"] == "%d things ('no number',)"


# -- streams that are slow or gone -----------------------------------------------------------------------------------


def test_a_stream_that_blocks_costs_lines_and_never_the_caller(restored: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tentaculo.telemetry.logging.MAX_WAITING", 100)
    reading, writing = os.pipe()
    with open(writing, "w") as stream, open(reading) as reader:
        writer = logging_setup.set_up(LogSettings(format="json"), stream)
        log = structlog.get_logger()
        logged = 0
        while writer.dropped < 50 and logged < 50_000:
            log.info("filler", text="x" * 1000, number=logged)
            logged += 1
        dropped = writer.dropped
        assert dropped >= 50

        said: list[dict[str, Any]] = []
        taking = threading.Thread(target=lambda: said.extend(map(json.loads, reader)))
        taking.start()
        until(lambda: any(line["event"] == "log lines dropped" for line in said))
        log.info("the last")
        writer.close()
        stream.close()
        taking.join(10)
    told = [line["lines"] for line in said if line["event"] == "log lines dropped"]
    numbers = [line["number"] for line in said if line["event"] == "filler"]
    assert sum(told) == dropped == writer.dropped
    assert len(numbers) == logged - dropped
    assert numbers == sorted(numbers)
    assert said[-1]["event"] == "the last"


def test_closing_waits_a_bounded_time_for_a_stream_that_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging_setup, "CLOSE_WAIT", 0.2)
    reading, writing = os.pipe()
    with open(reading, "rb") as reader, open(writing, "w") as stream:
        writer = LineWriter(stream)
        writer.write("x" * 1_000_000)
        started = time.monotonic()
        writer.close()
        took = time.monotonic() - started
        assert len(reader.read(1_000_001)) == 1_000_001
    assert 0.1 < took < 5


def test_a_reader_that_leaves_costs_lines_only() -> None:
    reading, writing = os.pipe()
    with open(writing, "w") as stream:
        os.close(reading)
        writer = LineWriter(stream)
        writer.write("for nobody")
        writer.close()
        assert writer.dropped == 1
        with suppress(BrokenPipeError):
            stream.close()


def test_a_stream_that_is_closed_costs_lines_only(set_up: SetUp) -> None:
    output = set_up()
    output.stream.close()
    structlog.get_logger().info("for nobody")
    output.writer.close()
    assert output.writer.dropped == 1
    assert "1 dropped" in repr(output.writer)


def test_lines_keep_their_order_and_none_is_lost_at_the_end(set_up: SetUp) -> None:
    output = set_up()
    for number in range(3000):
        output.writer.write(str(number))
    assert output.text.split() == [str(number) for number in range(3000)]
    assert output.writer.dropped == 0


# -- one line per request --------------------------------------------------------------------------------------------


def access_line(output: Output, item: RequestRecord, **config: Any) -> str:
    logger = access_logger(LogSettings(**{"format": "json", **config}), output.writer, output.stream)
    assert logger is not None
    logger(item)
    return output.text


def test_a_line_of_the_last_moment_is_written() -> None:
    class Waiting(deque[Any]):
        """One that gets another line, the last one, as soon as it was looked at and was empty."""

        is_last = False

        def __bool__(self) -> bool:
            found = len(self) > 0
            if not found and not self.is_last:
                self.is_last = True
                writer.write("second")
                writer._closing.set()
            return found

    stream = StringIO()
    writer = LineWriter(stream)
    writer._waiting = Waiting()
    writer.write("first")
    writer.close()
    assert stream.getvalue() == "first\nsecond\n"


def test_the_access_line_has_the_documented_keys(set_up: SetUp) -> None:
    line = json.loads(access_line(set_up(), record(service="madre", received=7, sent=9)))
    assert set(line) == ACCESS_KEYS
    others = {*PHASE_KEYS, *ROTATION_KEYS, "caller", "error", "detail", "hedge", "worker"}
    assert {*AccessLine.__struct_fields__} == ACCESS_KEYS | others
    del line["timestamp"]
    assert line == {
        "level": "info",
        "event": "request",
        "method": "GET",
        "path": "/madre/tasks",
        "status": 200,
        "ms": 12.3,
        "service": "madre",
        "peer": "127.0.0.1",
        "request_id": "abc123",
        "received": 7,
        "sent": 9,
    }


def test_a_failure_adds_its_word_and_what_happened(set_up: SetUp) -> None:
    line = json.loads(access_line(set_up(), record(status=502, error="connect_failed", detail="refused")))
    assert set(line) == {*ACCESS_KEYS, "error", "detail"}
    assert (line["error"], line["detail"]) == ("connect_failed", "refused")


def test_several_phases_are_split(set_up: SetUp) -> None:
    item = record(service="madre", seconds=2.0, queue_seconds=0.25, connect_seconds=0.5, head_seconds=1.0)
    line = json.loads(access_line(set_up(), item))
    assert set(line) == ACCESS_KEYS | PHASE_KEYS
    assert [line[key] for key in ("queue_ms", "connect_ms", "first_byte_ms", "body_ms")] == [250, 500, 250, 1000]
    on_terminal = access_line(set_up(), item, format="console")
    assert on_terminal.endswith("127.0.0.1 (queue 250.0, connect 500.0, first byte 250.0, body 1000.0 ms)\n")


def test_the_access_line_on_a_terminal_is_for_people(set_up: SetUp) -> None:
    line = access_line(set_up(), record(service="madre", sent=9), format="console")
    assert line.endswith("Z 200 GET /madre/tasks → madre 12.3 ms, 9 bytes, 127.0.0.1\n")


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize("target", ["/caf\udce9\udc9b", f"/{CONTROLS}", "/añil"])
def test_the_access_line_takes_any_target(set_up: SetUp, form: str, target: str) -> None:
    item = record(target=target, error="bad_target", detail=CONTROLS, peer=CONTROLS, request_id="\udce9")
    line = access_line(set_up(), item, format=form)
    assert line.count("\n") == 1
    assert line.removesuffix("\n").isprintable()
    if form == "json":
        assert set(json.loads(line)) == {*ACCESS_KEYS, "error", "detail"}


def test_a_target_is_logged_up_to_a_length(set_up: SetUp) -> None:
    line = json.loads(access_line(set_up(), record(target="/" + "a" * 30_000)))
    assert line["path"] == "/" + "a" * (logging_setup.MAX_TARGET - 1)


@pytest.mark.parametrize(
    "config", [LogSettings(access=False), LogSettings(level="warning"), LogSettings(level="error")]
)
def test_the_access_line_can_be_switched_off(config: LogSettings) -> None:
    writer = LineWriter(StringIO())
    try:
        assert access_logger(config, writer, StringIO()) is None
    finally:
        writer.close()


def test_the_stamp_is_that_of_the_other_lines() -> None:
    assert utc_stamp(1795458979.25) == "2026-11-23T18:36:19.250000Z"
    assert utc_stamp(1795458979.0) == "2026-11-23T18:36:19.000000Z"


# -- several workers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["json", "console"])
def test_each_line_of_a_worker_says_whose_it_is(restored: None, form: str) -> None:
    stream = StringIO()
    writer = logging_setup.set_up(read(LogSettings, {"format": form}), stream, worker=3)
    structlog.get_logger().info("health changed", service="madre")
    logging.getLogger("a.library").warning("odd")
    log = access_logger(read(LogSettings, {"format": form}), writer, stream, worker=3)
    assert log is not None
    log(record())
    log(record(target="/" + "x" * 2000))
    writer.close()
    lines = stream.getvalue().splitlines()
    assert len(lines) == 4
    if form == "json":
        assert [json.loads(line)["worker"] for line in lines] == [3] * 4
    else:
        assert all(re.search(r"worker[ =]3\b", line) for line in lines)


def test_writers_that_share_a_pipe_never_mix_their_lines() -> None:
    reading, writing = os.pipe()
    # As small as it can be, so that it is full all the time.
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    lines = ["x" * (number % 300 + 1) for number in range(2000)]
    streams = [os.fdopen(descriptor, "w", encoding="utf-8") for descriptor in (os.dup(writing), writing)]
    writers = [LineWriter(stream, shares=True) for stream in streams]
    for name, writer in zip("aé", writers, strict=True):
        for line in lines:
            writer.write(line.replace("x", name))
    # Each has taken its first lines, and nobody has read any.
    until(lambda: all("2000 waiting" not in repr(writer) for writer in writers))

    def close() -> None:
        for writer, stream in zip(writers, streams, strict=True):
            writer.close()
            stream.close()

    closing = threading.Thread(target=close)
    closing.start()
    with os.fdopen(reading, encoding="utf-8", errors="replace") as pipe:
        read = pipe.read().splitlines()
    closing.join()
    for name in "aé":
        assert [line for line in read if line.startswith(name)] == [line.replace("x", name) for line in lines]
    assert len(read) == 2 * len(lines)
