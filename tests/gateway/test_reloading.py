"""Reloads one after another: who waits for which, what each reports, and when there is none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tentaculo.config.comparison import Changes, compare
from tentaculo.config.errors import ConfigError, ConfigFault
from tentaculo.gateway.configuration_source import Candidate, ConfigurationSource
from tentaculo.gateway.reloading import Reloader, ReloadFailedError, ReloadRefusedError, ReloadReport
from tentaculo.net.systemd_notify import ServiceManager
from tentaculo.security.tokens import hash_token
from tentaculo.tasks import TaskGroup
from tests.support.service_manager import Manager, service_manager
from tests.support.waits import eventually

AUTH = f'[auth]\ntokens = ["{hash_token("a-token")}"]\n'


def service(name: str) -> str:
    return f'[services.{name}]\nurl = "http://127.0.0.1:1"\n'


class Target:
    """What is reloaded: it holds each candidate until the test lets it through."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.source = ConfigurationSource(file)
        self.config = self.source.load().config
        self.applied: list[tuple[str, int, list[str]]] = []
        self.reports: list[ReloadReport] = []
        self.error: Exception | None = None
        self.let_through = asyncio.Event()
        self.let_through.set()
        self.holds = 0
        self.tasks = TaskGroup("target")

    def write(self, *names: str, more: str = "") -> None:
        self.file.write_text(AUTH + more + "".join(map(service, names)))

    async def apply(self, candidate: Candidate, by: str, number: int) -> Changes:
        self.holds += 1
        await self.let_through.wait()
        if self.error is not None:
            raise self.error
        changes, self.config = compare(self.config, candidate.config), candidate.config
        self.applied.append((by, number, list(candidate.config.services)))
        return changes


@asynccontextmanager
async def reloader(
    tmp_path: Path, manager: Manager | None = None, *, opened: bool = True
) -> AsyncIterator[tuple[Reloader, Target]]:
    file = tmp_path / "gateway.toml"
    file.write_text(AUTH + service("one"))
    target = Target(file)
    made = Reloader(target.source, manager=ServiceManager(manager.address) if manager else None)
    made.on_report = target.reports.append
    if opened:
        made.open(target.apply, watch=False)
    try:
        yield made, target
    finally:
        await made.close()
        await target.tasks.close()


async def test_a_reload_reports_what_it_changed(tmp_path: Path) -> None:
    async with reloader(tmp_path) as (made, target):
        assert (made.last.by, made.last.generation, made.last.is_accepted) == ("start", 1, True)
        target.write("one", "two")
        report = await made.reload("SIGHUP")
        assert report.changes is not None
        assert (report.generation, report.changes.added, report.why_not) == (2, ("two",), "")
        assert made.last is report
        assert target.reports == [report]
        assert target.applied == [("SIGHUP", 2, ["one", "two"])]


async def test_faults_change_nothing_and_are_all_reported(tmp_path: Path) -> None:
    async with reloader(tmp_path) as (made, target):
        target.write("one", more="[server]\nprot = 1\nkeepalive = -1\n")
        with capture_logs() as logs:
            report = await made.reload("SIGHUP")
        assert not report.is_accepted
        assert (report.generation, report.why_not) == (1, "the configuration has 2 faults")
        assert {fault.path for fault in report.faults} == {"server.prot", "server.keepalive"}
        assert target.applied == []
        (line,) = logs
        assert (line["event"], line["log_level"], len(line["faults"])) == ("configuration rejected", "error", 2)
        target.write("one")
        assert (await made.reload("SIGHUP")).generation == 2


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (ConfigError([ConfigFault("services.one.url", "is not good")]), "the configuration has 1 fault"),
        (ReloadFailedError("worker 2 ended"), "worker 2 ended"),
        (RuntimeError("a defect"), "the gateway failed to apply it; its log says why"),
    ],
)
async def test_what_cannot_be_applied_is_reported(tmp_path: Path, error: Exception, why: str) -> None:
    async with reloader(tmp_path) as (made, target):
        target.error = error
        report = await made.reload("SIGHUP")
        assert (report.is_accepted, report.generation, report.why_not) == (False, 1, why)
        target.error = None
        assert (await made.reload("SIGHUP")).is_accepted


async def test_a_second_one_waits_and_those_after_it_join_it(tmp_path: Path) -> None:
    async with reloader(tmp_path) as (made, target):
        target.let_through.clear()
        first = target.tasks.start(made.reload("first"), "first")
        await eventually(lambda: target.holds == 1)
        # It has read the file already: only a second one can see this.
        target.write("one", "two")
        later = [target.tasks.start(made.reload(f"later {number}"), "later") for number in range(5)]
        await asyncio.sleep(0)
        made.request("SIGHUP")
        target.let_through.set()
        assert (await first).generation == 2
        reports = await asyncio.gather(*later)
        assert all(report is reports[0] for report in reports)
        assert (reports[0].generation, reports[0].by) == (3, "later 0")
        assert target.applied == [("first", 2, ["one"]), ("later 0", 3, ["one", "two"])]


async def test_a_caller_that_leaves_does_not_end_the_reload(tmp_path: Path) -> None:
    async with reloader(tmp_path) as (made, target):
        target.let_through.clear()
        first = target.tasks.start(made.reload("first"), "first")
        await eventually(lambda: target.holds == 1)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        target.let_through.set()
        await eventually(lambda: [by for by, _, _ in target.applied] == ["first"])


async def test_while_it_starts_there_is_none_but_a_signal_is_remembered(tmp_path: Path) -> None:
    async with reloader(tmp_path, opened=False) as (made, target):
        with pytest.raises(ReloadRefusedError, match="starting") as refused:
            await made.reload("admin")
        assert not refused.value.is_stopping
        made.request("SIGHUP")
        target.write("one", "two")
        made.open(target.apply, watch=False)
        await eventually(lambda: target.applied == [("SIGHUP", 2, ["one", "two"])])


async def test_a_stop_gives_up_what_is_not_applied_and_refuses_the_rest(tmp_path: Path) -> None:
    async with reloader(tmp_path) as (made, target):
        target.let_through.clear()
        asked = [target.tasks.start(made.reload(str(number)), "asked") for number in range(2)]
        await eventually(lambda: target.holds == 1)
        await made.close()
        for one in asked:
            with pytest.raises(ReloadRefusedError, match="stopping"):
                await one
        with pytest.raises(ReloadRefusedError, match="stopping") as refused:
            await made.reload("late")
        assert refused.value.is_stopping
        made.request("SIGHUP")
        assert (target.applied, target.reports) == ([], [])


async def test_what_is_asked_for_during_a_pause_waits(tmp_path: Path) -> None:
    async with reloader(tmp_path) as (made, target):
        async with made.paused():
            asked = target.tasks.start(made.reload("admin"), "asked")
            await asyncio.sleep(0)
            target.write("one", "two")
        assert (await asked).generation == 2
        assert target.applied == [("admin", 2, ["one", "two"])]


async def test_a_successor_gets_the_signals_and_the_rest_is_refused(tmp_path: Path) -> None:
    passed_on: list[str] = []
    async with reloader(tmp_path) as (made, target):
        async with made.paused():
            asked = target.tasks.start(made.reload("admin"), "asked")
            changing = target.tasks.start(_adopt(made), "changing")
            await asyncio.sleep(0)
            made.request("SIGHUP")
            assert passed_on == [], "the successor may fail"
            made.hand_over(lambda: passed_on.append("SIGHUP"))
        for one in (asked, changing):
            with pytest.raises(ReloadRefusedError, match="stopping") as refused:
                await one
            assert refused.value.is_stopping
        assert passed_on == ["SIGHUP"]
        made.request("SIGHUP")
        assert passed_on == ["SIGHUP", "SIGHUP"]
        assert target.holds == 0


async def _adopt(made: Reloader) -> None:
    async with made.turn():
        raise AssertionError("the successor makes changes from now on")


async def test_no_signal_is_made_up_for_a_successor(tmp_path: Path) -> None:
    passed_on: list[str] = []
    async with reloader(tmp_path) as (made, target):
        made.request("SIGHUP")
        await eventually(lambda: len(target.applied) == 1)
        async with made.paused():
            made.hand_over(lambda: passed_on.append("SIGHUP"))
        assert passed_on == []


async def test_the_service_manager_learns_of_each(tmp_path: Path) -> None:
    with service_manager() as manager:
        async with reloader(tmp_path, manager) as (made, target):
            await made.reload("SIGHUP")
            target.write("one", more="[server]\nprot = 1\n")
            await made.reload("SIGHUP")
            assert manager.states == ["RELOADING", "READY", "RELOADING", "READY"]
            statuses = [report["STATUS"] for report in manager.reports if "STATUS" in report]
            assert statuses == [
                "serves generation 2 of the configuration",
                "serves generation 2 of the configuration; the last reload changed nothing: the configuration has 1 fault",
            ]


async def test_the_files_are_watched_where_the_configuration_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tentaculo.gateway.file_watch.LOOK_EVERY", 0.02)
    async with reloader(tmp_path) as (made, target):
        target.write("one", "two", more="[reload]\nwatch = true\n")
        await made.reload("SIGHUP")
        target.write("one", "two", "three", more="[reload]\nwatch = true\n")
        await eventually(lambda: target.applied[-1] == ("file change", 3, ["one", "two", "three"]))
        # A faulty file is read once, not with each look.
        target.write("one", more="][")
        await eventually(lambda: len(target.reports) == 3)
        target.write("one")
        await eventually(lambda: target.applied[-1] == ("file change", 4, ["one"]))
        assert len(target.reports) == 4
        assert not made.last.faults


async def test_a_report_that_fails_hides_no_reload(tmp_path: Path) -> None:
    """Out of descriptors, the supervisor could not spread it, and who had asked got 500 for what was served."""
    async with reloader(tmp_path) as (made, target):

        def fail(_: ReloadReport) -> None:
            raise OSError("too many open files")

        made.on_report = fail
        target.write("one", "two")
        with capture_logs() as logs:
            report = await made.reload("SIGHUP")
        assert report.is_accepted
        assert made.last is report
        assert [one["event"] for one in logs if one["log_level"] == "error"] == ["reload not reported"]
