"""A reload of all workers over their real channels: all of them serve the new configuration, or none does."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from tentaculo.config.accepted_tokens import AcceptedTokens
from tentaculo.config.change_layer import ChangeLayer, TimedOverride, read_layer, write_layer
from tentaculo.config.comparison import Changes, compare
from tentaculo.config.errors import ConfigError, ConfigFault
from tentaculo.config.layers import Sources
from tentaculo.config.schema import Config
from tentaculo.gateway.configuration_source import ConfigurationSource
from tentaculo.gateway.layer_keeper import NotServedError
from tentaculo.gateway.layer_reloads import LayerReloads
from tentaculo.gateway.reloading import ReloadRefusedError, ReloadReport, start_report
from tentaculo.model.text import utc_now
from tentaculo.net.systemd_notify import ServiceManager
from tentaculo.security.tokens import hash_token
from tentaculo.tasks import TaskGroup
from tentaculo.workers import joint_reload as module
from tentaculo.workers.channel import RELOADS, WorkerChannel, pair
from tentaculo.workers.generations import WorkerReloads
from tentaculo.workers.joint_reload import JointReload
from tentaculo.workers.worker_process import WorkerSpec
from tests.support.waits import eventually

AUTH = f'[auth]\ntokens = ["{hash_token("a-token")}"]\n[server]\nworkers = 3\nport = 0\n'
BOUND = ("127.0.0.1:4567",)


def service(name: str) -> str:
    return f'[services.{name}]\nurl = "http://127.0.0.1:1"\n'


class FakeGateway:
    """What a worker serves, and what it does when it is to prepare something else."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.hashes: Sequence[Any] | None = ()
        self.error: Exception | None = None
        self.swap_error: Exception | None = None
        self.let_through = asyncio.Event()
        self.let_through.set()
        self.is_preparing = False

    async def prepare(self, config: Config, hashes: AcceptedTokens | None) -> Any:
        self.is_preparing = True
        await self.let_through.wait()
        if self.error is not None:
            raise self.error
        return config, hashes

    def swap(self, generation: Any, by: str) -> Changes:
        if self.swap_error is not None:
            raise self.swap_error
        changes = compare(self.config, generation[0])
        self.config, self.hashes = generation
        return changes


class FakeWorker:
    """A worker's end in this process."""

    def __init__(self, stage: Stage, number: int) -> None:
        ours, theirs = pair()
        self.number = number
        self.ready_at: float | None = 1.0
        self.recorded: list[ReloadReport] = []
        self.spec = WorkerSpec.read(stage.descriptor)
        self.gateway = FakeGateway(self.spec.config)
        self.channel = WorkerChannel(
            ours,
            on_message=lambda message: stage.joint.receive(self, message, None),
            on_file=lambda message, descriptor: stage.joint.receive(self, message, descriptor),
            on_end=lambda: stage.end(self),
        )
        self.reloads = WorkerReloads(self.spec.last_reload or start_report(utc_now()), lambda: self.end)
        self.reloads.on_report = self.recorded.append
        self.reloads.open(self.gateway)
        self.end = WorkerChannel(
            theirs,
            on_message=lambda message: self.reloads.receive(message, None),
            on_file=self.reloads.receive,
            on_end=lambda: None,
        )

    @property
    def services(self) -> list[str]:
        return list(self.gateway.config.services)

    async def die(self) -> None:
        await self.reloads.close()
        self.end.close()


class Stage:
    """A supervisor without processes."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.write("one")
        source = ConfigurationSource(file)
        read = source.load().config
        config = read.replace(server=read.server.replace(listen=BOUND))
        self.job = WorkerSpec(config, source.read().hashes or (), "x")
        self.descriptor = self.job.write()
        self.workers: dict[int, FakeWorker] = {}
        self.killed: list[int] = []
        self.held: set[int] | None = None
        self.tasks = TaskGroup("stage")
        self.joint = JointReload(self, source, ServiceManager(), read)

    def write(self, *names: str, more: str = "") -> None:
        self.file.write_text(AUTH + more + "".join(map(service, names)))

    def spawn(self, number: int, *, is_ready: bool = True) -> None:
        """Start a worker with the present specification, unless a reload holds the starts."""
        if self.held is not None:
            self.held.add(number)
            return
        worker = self.workers[number] = FakeWorker(self, number)
        if not is_ready:
            worker.ready_at = None

    def ready(self, number: int) -> None:
        self.workers[number].ready_at = 1.0
        self.joint.note_change()

    def end(self, worker: FakeWorker) -> None:
        """Its channel has ended: it is replaced, as a supervisor does."""
        del self.workers[worker.number]
        self.joint.note_end(worker.number)
        self.spawn(worker.number)

    @property
    def peers(self) -> list[FakeWorker]:
        return [*self.workers.values()]

    @property
    def services(self) -> list[list[str]]:
        """What each worker serves."""
        return [worker.services for _, worker in sorted(self.workers.items())]

    def hold_starts(self, hold: bool) -> None:
        held, self.held = self.held, set() if hold else None
        for number in sorted(held or ()):
            self.spawn(number)

    def set_job(self, job: WorkerSpec, descriptor: int) -> None:
        os.close(self.descriptor)
        self.job, self.descriptor = job, descriptor

    def kill(self, number: int) -> None:
        self.killed.append(number)
        self.tasks.start(self.workers[number].die(), "kill")

    async def reload(self) -> ReloadReport:
        """As somebody asks for it at the last worker."""
        return await self.workers[max(self.workers)].reloads.reload("test")


@asynccontextmanager
async def stage(tmp_path: Path, workers: int = 3) -> AsyncIterator[Stage]:
    made = Stage(tmp_path / "gateway.toml")
    for number in range(1, workers + 1):
        made.spawn(number)
    made.joint.open()
    try:
        yield made
    finally:
        await made.joint.close()
        await made.tasks.close()
        for worker in made.peers:
            await worker.reloads.close()
            worker.channel.close()
            worker.end.close()
        os.close(made.descriptor)


async def test_all_workers_serve_what_was_read(tmp_path: Path) -> None:
    async with stage(tmp_path) as here:
        here.write("one", "two")
        report = await here.reload()
        assert report.changes is not None
        assert (report.generation, report.by, report.changes.added) == (2, "test", ("two",))
        assert here.services == [["one", "two"]] * 3
        assert [worker.reloads.last for worker in here.peers] == [report] * 3
        # A worker that is started later has the same, and knows of the reload.
        await here.workers[2].die()
        await eventually(lambda: 2 in here.workers and here.workers[2].services == ["one", "two"])
        assert here.workers[2].reloads.last == report
        assert here.job.generation == 2


async def test_an_override_ends_in_all_workers_with_the_tokens_that_they_have(tmp_path: Path) -> None:
    """The token file is broken by then. Tokens that were revoked since the last reload must not come back."""
    now = utc_now()
    changes = tmp_path / "data" / "changes.json"
    write_layer(changes, ChangeLayer(1, overrides={"one": TimedOverride(False, now, now + timedelta(hours=1))}))
    async with stage(tmp_path) as here:
        hashes = here.job.hashes
        assert [worker.gateway.config.services["one"].enabled for worker in here.peers] == [False] * 3
        (tmp_path / "data" / "token").write_text("no token\n")
        assert here.joint._layers is not None
        here.joint._layers._end(frozenset({"one"}))
        await eventually(lambda: all(worker.gateway.config.services["one"].enabled for worker in here.peers))
        assert [worker.gateway.hashes for worker in here.peers] == [None] * 3
        assert here.job.hashes == hashes
        await eventually(lambda: read_layer(changes).overrides == {})


async def test_the_addresses_that_are_bound_are_no_change(tmp_path: Path) -> None:
    """Workers have the bound addresses in their configuration, and the file has port 0."""
    async with stage(tmp_path) as here:
        report = await here.reload()
        assert report.changes is not None
        assert not report.changes
        assert here.workers[1].gateway.config.server.listen == BOUND


async def test_what_needs_a_restart_is_named_each_time_and_not_applied(tmp_path: Path) -> None:
    async with stage(tmp_path) as here:
        here.file.write_text(here.file.read_text().replace("workers = 3", "workers = 5") + '[log]\nlevel = "debug"\n')
        for _ in range(2):
            report = await here.reload()
            assert report.changes is not None
            assert list(report.changes.needs_restart) == ["server.workers", "log.level"]
        assert here.job.workers == 3
        assert here.workers[1].gateway.config.log.level == "info"


async def test_tokens_are_handed_down(tmp_path: Path) -> None:
    async with stage(tmp_path) as here:
        here.file.write_text(here.file.read_text().replace(hash_token("a-token"), hash_token("rotated")))
        report = await here.reload()
        assert report.changes is not None
        assert "auth.tokens" in report.changes.changed_keys
        assert [[one.hash for one in worker.gateway.hashes or ()] for worker in here.peers] == [
            [hash_token("rotated")]
        ] * 3


async def test_a_faulty_file_reaches_no_worker_and_one_of_them_records_it(tmp_path: Path) -> None:
    async with stage(tmp_path) as here:
        here.write("one", more="prot = 1\nkeepalive = -1\n")
        report = await here.reload()
        assert {fault.path for fault in report.faults} == {"server.prot", "server.keepalive"}
        assert not any(worker.gateway.is_preparing for worker in here.peers)
        assert [worker.reloads.last for worker in here.peers] == [report] * 3
        assert [worker.recorded for worker in here.peers] == [[report], [], []]


@pytest.mark.parametrize("refusing", [1, 2, 3])
async def test_a_worker_that_cannot_prepare_has_all_keep_what_they_serve(tmp_path: Path, refusing: int) -> None:
    async with stage(tmp_path) as here:
        here.write("one", "two")
        here.workers[refusing].gateway.error = ConfigError([ConfigFault("services.two.url", "is bad there")])
        report = await here.reload()
        assert [str(fault) for fault in report.faults] == ["services.two.url: is bad there"]
        assert here.services == [["one"]] * 3
        refused = here.workers[refusing]
        await refused.die()
        await eventually(lambda: here.workers.get(refusing) not in (None, refused))
        assert here.workers[refusing].services == ["one"], "a later one starts with what is served, not with the file"
        assert (await here.reload()).is_accepted
        assert here.services == [["one", "two"]] * 3


async def test_a_defect_in_one_worker_is_a_problem_that_is_reported(tmp_path: Path) -> None:
    async with stage(tmp_path) as here:
        here.write("one", "two")
        here.workers[2].gateway.error = RuntimeError("a defect")
        report = await here.reload()
        assert report.why_not == "worker 2 could not prepare it: it failed to; its log says why"
        assert here.services == [["one"]] * 3


async def test_one_that_dies_while_it_prepares_has_all_keep_what_they_serve(tmp_path: Path) -> None:
    async with stage(tmp_path) as here:
        here.write("one", "two")
        dying = here.workers[2]
        dying.gateway.let_through.clear()
        asked = here.tasks.start(here.reload(), "reload")
        await eventually(lambda: dying.gateway.is_preparing)
        await dying.die()
        assert (await asked).why_not == "worker 2 could not prepare it: it ended"
        await eventually(lambda: here.services == [["one"]] * 3)
        assert here.workers[2] is not dying


async def test_one_that_takes_too_long_has_all_keep_what_they_serve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PREPARE_WITHIN", 0.2)
    async with stage(tmp_path) as here:
        here.write("one", "two")
        slow = here.workers[3].gateway
        slow.let_through.clear()
        assert (await here.workers[1].reloads.reload("test")).why_not.startswith(
            "worker 3 could not prepare it: it did not"
        )
        slow.let_through.set()
        # What it has prepared too late is dropped: the next reload is not confused by it.
        monkeypatch.setattr(module, "PREPARE_WITHIN", 20)
        here.write("one", "three")
        assert (await here.reload()).is_accepted
        assert here.services == [["one", "three"]] * 3


async def test_one_that_dies_after_it_has_prepared_starts_with_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stage(tmp_path) as here:
        here.write("one", "two")
        dying, slow = here.workers[2], here.workers[1]
        slow.gateway.let_through.clear()
        asked = here.tasks.start(here.reload(), "reload")
        await eventually(lambda: dying.reloads._prepared is not None and slow.gateway.is_preparing)
        # It cannot hear the second step.
        monkeypatch.setattr(dying.reloads, "receive", lambda *_: here.tasks.start(dying.die(), "die"))
        dying.end._on_message = lambda message: dying.reloads.receive(message, None)
        slow.gateway.let_through.set()
        assert (await asked).is_accepted
        await eventually(lambda: here.services == [["one", "two"]] * 3)
        assert here.workers[2] is not dying
        assert here.killed == []


async def test_one_that_fails_to_swap_is_replaced(tmp_path: Path) -> None:
    async with stage(tmp_path) as here:
        here.write("one", "two")
        failing = here.workers[2]
        failing.gateway.swap_error = RuntimeError("a defect")
        assert (await here.reload()).is_accepted
        assert here.killed == [2]
        await eventually(lambda: here.services == [["one", "two"]] * 3)
        assert here.workers[2] is not failing


async def test_a_reload_waits_for_workers_that_are_being_started(tmp_path: Path) -> None:
    async with stage(tmp_path, workers=2) as here:
        here.spawn(3, is_ready=False)
        here.write("one", "two")
        asked = here.tasks.start(here.workers[1].reloads.reload("test"), "reload")
        await eventually(lambda: here.held is not None)
        assert not here.workers[1].gateway.is_preparing
        here.ready(3)
        assert (await asked).is_accepted
        assert here.services == [["one", "two"]] * 3


async def test_one_that_never_gets_ready_is_replaced_and_starts_with_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "START_WITHIN", 0.2)
    async with stage(tmp_path, workers=2) as here:
        here.spawn(3, is_ready=False)
        here.write("one", "two")
        assert (await here.workers[1].reloads.reload("test")).is_accepted
        assert here.killed == [3]
        assert here.services == [["one", "two"]] * 3


async def test_where_no_worker_runs_the_next_ones_start_with_it(tmp_path: Path) -> None:
    """A configuration that kills every worker can be mended without a restart."""
    async with stage(tmp_path, workers=0) as here:
        here.write("one", "two")
        here.joint.request()
        await eventually(lambda: list(here.job.config.services) == ["one", "two"])
        here.spawn(1)
        assert here.services == [["one", "two"]]
        assert here.workers[1].reloads.last.by == "SIGHUP"


async def test_reloads_asked_for_at_several_workers_never_interleave(tmp_path: Path) -> None:
    async with stage(tmp_path) as here:
        for gateway in (worker.gateway for worker in here.peers):
            gateway.let_through.clear()
        first = here.tasks.start(here.workers[1].reloads.reload("first"), "first")
        await eventually(lambda: all(worker.gateway.is_preparing for worker in here.peers))
        here.write("one", "two")
        later = [here.tasks.start(here.workers[number].reloads.reload(f"at {number}"), "later") for number in (1, 2, 3)]
        for worker in here.peers:
            worker.gateway.let_through.set()
        assert (await first).generation == 2
        reports = [await one for one in later]
        assert {report.generation for report in reports} == {3}
        assert here.services == [["one", "two"]] * 3


async def test_a_stop_refuses_and_leaves_nothing_behind(tmp_path: Path) -> None:
    async with stage(tmp_path) as here:
        before = len(os.listdir("/proc/self/fd"))
        for worker in here.peers:
            worker.gateway.let_through.clear()
        asked = here.tasks.start(here.reload(), "reload")
        await eventually(lambda: all(worker.gateway.is_preparing for worker in here.peers))
        await here.joint.close()
        with pytest.raises(ReloadRefusedError, match="stopping"):
            await asked
        await eventually(lambda: len(os.listdir("/proc/self/fd")) <= before)
        assert here.services == [["one"]] * 3


async def test_a_report_of_any_size_arrives(tmp_path: Path) -> None:
    """It is larger than a message may be."""
    async with stage(tmp_path) as here:
        here.write("one", more="".join(f"unknown_key_{number} = 1\n" for number in range(3000)))
        report = await here.reload()
        assert len(report.faults) == 3000
        here.write(*(f"service-{number}" for number in range(1000)))
        report = await here.reload()
        assert report.changes is not None
        assert len(report.changes.added) == 1000


async def test_many_reloads_keep_no_descriptor(tmp_path: Path) -> None:
    async with stage(tmp_path) as here:
        await here.reload()
        before = len(os.listdir("/proc/self/fd"))
        for number in range(20):
            here.write("one", f"s{number}")
            assert (await here.reload()).is_accepted
        assert len(os.listdir("/proc/self/fd")) == before


async def test_a_message_that_is_for_nobody_is_dropped(tmp_path: Path) -> None:
    async with stage(tmp_path) as here:
        worker = here.workers[1]
        worker.end.order(RELOADS + b"\x80\x04N.")
        assert (await here.reload()).is_accepted


async def test_a_worker_learns_that_the_supervisor_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waited for ever, and each later change of that worker behind it."""

    async def fail(self: LayerReloads) -> Sources:
        raise OSError("too many open files")

    monkeypatch.setattr(LayerReloads, "describe", fail)
    async with stage(tmp_path) as here, asyncio.timeout(20):
        layers = here.workers[1].reloads.layers
        assert layers is not None
        with capture_logs() as logs, pytest.raises(NotServedError, match="its log says why"):
            await layers.describe()
        assert [one["event"] for one in logs] == ["change of a worker failed"]
