"""Reloads: they run one after another, in whichever way they were asked for, and each gives one report.

    SIGHUP, a changed file, `POST /tentaculo/admin/reload` ─▶ Reloader ─▶ read ─▶ apply ─▶ report

A single gateway applies what was read itself. With several workers this runs in the supervisor, which has all of them
apply it (`workers/generations.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import structlog

from tentaculo.config.accepted_tokens import AcceptedTokens
from tentaculo.config.comparison import Changes
from tentaculo.config.errors import ConfigError, ConfigFault
from tentaculo.config.schema import Config
from tentaculo.gateway.configuration_source import Candidate, ConfigurationSource
from tentaculo.gateway.file_watch import FileWatch
from tentaculo.gateway.loading import beside_the_loop
from tentaculo.model.event import RecordOwnEvent
from tentaculo.model.page import ServedConfiguration
from tentaculo.model.text import printable, utc_now
from tentaculo.net.systemd_notify import ServiceManager
from tentaculo.tasks import TaskGroup

if TYPE_CHECKING:
    from tentaculo.gateway.layer_keeper import Layers

log = structlog.get_logger(__name__)

MOST_LOGGED = 20
"""Faults in one line of the log at most."""
MOST_RECORDED, MOST_SHOWN, MOST_FAULT = 50, 5, 300
"""Faults in one event and on the page at most, and characters of each."""


class ReloadFailedError(Exception):
    """The new configuration is valid, and could not be applied. The text is the reason; what was served is served on."""


class ReloadRefusedError(Exception):
    """No reload is possible now. The text is the reason; `is_stopping` whether the gateway stops."""

    def __init__(self, reason: str, *, is_stopping: bool = False) -> None:
        super().__init__(reason)
        self.is_stopping = is_stopping


@dataclass(frozen=True)
class ReloadReport:
    """What became of one reload."""

    by: str
    """What asked for it."""
    at: datetime
    generation: int
    """Number of the configuration that is served since then; that of the start is 1."""
    changes: Changes | None = None
    """None where nothing was changed: `faults` or `problem` says why."""
    faults: tuple[ConfigFault, ...] = ()
    """Every fault of the configuration."""
    problem: str = ""
    """Why a valid configuration could not be applied."""
    warnings: tuple[str, ...] = ()
    before: tuple[str, datetime] | None = None
    """What loaded the configuration that was served before, and when."""

    @property
    def is_accepted(self) -> bool:
        """Whether the configuration that was read is served now."""
        return self.changes is not None

    @property
    def loaded(self) -> tuple[str, datetime]:
        """What loaded the configuration that is served now, and when."""
        return (self.by, self.at) if self.is_accepted or self.before is None else self.before

    @property
    def why_not(self) -> str:
        """Why nothing was changed, in one line; empty where the reload was accepted."""
        if self.problem or self.is_accepted:
            return self.problem
        count = len(self.faults)
        return f"the configuration has {count} fault{'' if count == 1 else 's'}"

    @cached_property
    def shown(self) -> ServedConfiguration:
        """What the page shows of it to those who have signed in."""
        by, since = self.loaded
        served = ServedConfiguration(self.generation, by, since)
        if self.is_accepted:
            return served
        faults = tuple(printable(str(fault), MOST_FAULT) for fault in self.faults[:MOST_SHOWN])
        return replace(served, refused_by=self.by, refused_at=self.at, refused_why=self.why_not, faults=faults)


def start_report(at: datetime) -> ReloadReport:
    """What stands for the last reload before there was any."""
    return ReloadReport("start", at, 1, Changes())


class Reloads(Protocol):
    """Reloads as a gateway sees them."""

    last: ReloadReport
    """The last one; that of the start before there was any."""
    layers: Layers | None
    """The layers of changes; None where the configuration is from no file."""
    on_report: Callable[[ReloadReport], None]
    """Called after each, in one of several workers: it records what must be recorded once."""

    async def reload(self, by: str) -> ReloadReport:
        """Read the configuration again and apply it. Raises `ReloadRefusedError`."""


class NoReloads:
    """Of a gateway whose configuration is from no file, such as the demonstration."""

    def __init__(self) -> None:
        self.last = start_report(utc_now())
        self.layers: Layers | None = None
        self.on_report: Callable[[ReloadReport], None] = lambda _: None

    async def reload(self, by: str) -> ReloadReport:
        """Raises `ReloadRefusedError`."""
        raise ReloadRefusedError("The configuration of this gateway is from no file.")


def recorded(reloads: Reloads | None, record: RecordOwnEvent) -> Reloads:
    """`reloads`, or none, with an event for each that changed nothing. Those that were accepted record themselves."""

    def note(report: ReloadReport) -> None:
        if not report.is_accepted:
            record(
                "configuration.rejected",
                severity="warning",
                by=report.by,
                reason=report.why_not,
                generation=report.generation,
                faults=[printable(str(fault), MOST_FAULT) for fault in report.faults[:MOST_RECORDED]],
            )

    reloads = reloads or NoReloads()
    reloads.on_report = note
    return reloads


class Reloadable(Protocol):
    """A gateway that can serve another configuration."""

    async def prepare(self, config: Config, hashes: AcceptedTokens | None) -> Any:
        """Build everything for `config`, to be given to `swap`. Raises ConfigError and changes nothing.

        Without `hashes` the accepted tokens stay.
        """

    def swap(self, generation: Any, by: str) -> Changes:
        """Serve what was prepared, from this turn of the loop on."""


class HandedReloads(Reloads, Protocol):
    """Reloads in a worker, which come from the supervisor."""

    def open(self, gateway: Reloadable) -> None:
        """Apply to `gateway` from now on."""

    async def close(self) -> None:
        """Apply nothing any more."""


Apply = Callable[[Candidate, str, int], Awaitable[Changes]]
"""Applies what was read, as the generation of this number. Raises ConfigError or `ReloadFailedError`: nothing was changed then."""


class Reloader:
    """Runs one reload at a time, and watches the files where `reload.watch` says so.

    A reload that is asked for while one runs waits for it, since the files may have changed after that one has read
    them. Any number that wait are one reload.
    """

    def __init__(
        self,
        source: ConfigurationSource,
        *,
        manager: ServiceManager | None = None,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        """`manager` learns of each reload."""
        self.last = start_report(now())
        self.layers: Layers | None = None
        self._source = source
        self._manager = manager or ServiceManager()
        self.on_report: Callable[[ReloadReport], None] = lambda _: None
        """Called after each reload, before those that asked for it learn of it."""
        self._now = now
        self.on_served: Callable[[Candidate], None] = lambda _: None
        """Called with each configuration that is served from now on."""
        self._turn = asyncio.Lock()
        self._apply: Apply | None = None
        self._is_stopping = False
        self._wanted_by = ""
        self._has_request = False
        """Whether a signal has asked for a reload that has not begun."""
        self._request_successor: Callable[[], None] | None = None
        self._running: asyncio.Task[ReloadReport] | None = None
        self._waiting: asyncio.Task[ReloadReport] | None = None
        self._watching: asyncio.Task[Any] | None = None
        self._tasks = TaskGroup("reload")

    def __repr__(self) -> str:
        return f"<Reloader: generation {self.last.generation}, {len(self._tasks)} tasks>"

    def open(self, apply: Apply, *, watch: bool) -> None:
        """Reload from now on when asked to, by `apply`. One that a signal has asked for before begins now."""
        self._apply = apply
        self.watch(watch)
        if self._wanted_by:
            self.request(self._wanted_by)

    async def close(self) -> None:
        """Reload no more. One that runs is given up, unless it is applied already."""
        self._is_stopping = True
        await self._tasks.close()

    def watch(self, wanted: bool) -> None:
        """Start or stop to watch the files."""
        if wanted and self._watching is None:
            watch = FileWatch(self._source, lambda: self.reload("file change"))
            self._watching = self._tasks.start(watch.run(), "watch")
        elif not wanted and self._watching is not None:
            self._watching.cancel()
            self._watching = None

    def request(self, by: str) -> None:
        """Reload soon, for somebody who cannot wait for the report, such as a signal."""
        if self._request_successor is not None:
            self._request_successor()
        elif self._apply is None:
            self._wanted_by = by
        elif not self._is_stopping:
            self._has_request = True
            self._enqueue(by)

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """Apply nothing meanwhile: a successor has read the configuration, or is about to. What is asked for waits."""
        async with self._turn:
            yield

    def hand_over(self, request: Callable[[], None]) -> None:
        """Reload no more: another process does, and reloads soon when `request` is called. What waits is given up.

        A signal that waits here, or comes here from now on, is passed on to it.
        """
        self._is_stopping, self._request_successor = True, request
        for task in (self._running, self._waiting):
            if task is not None:
                task.cancel()
        if self._has_request:
            request()

    async def reload(self, by: str) -> ReloadReport:
        """Read the configuration again and apply it. Raises `ReloadRefusedError`."""
        self._check()
        waiting = self._enqueue(by)
        try:
            return await asyncio.shield(waiting)
        except asyncio.CancelledError:
            asking = asyncio.current_task()
            if waiting.cancelled() and not (asking and asking.cancelling()):
                raise ReloadRefusedError("The gateway is stopping.", is_stopping=True) from None
            raise

    def _enqueue(self, by: str) -> asyncio.Task[ReloadReport]:
        if self._waiting is None:
            self._waiting = self._tasks.start(self._run_after(self._running, by), "reload")
        return self._waiting

    async def _run_after(self, before: asyncio.Task[ReloadReport] | None, by: str) -> ReloadReport:
        if before is not None:
            await asyncio.wait([before])
        self._running, self._waiting = self._waiting, None
        async with self._turn:
            self._has_request = False
            # In a thread: a large file takes a while to be parsed.
            return await self._serve(by, lambda: beside_the_loop(self._source.read))

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[Callable[[str, Candidate], Awaitable[ReloadReport]]]:
        """No reload runs meanwhile; yields what serves a configuration that was made otherwise.

        Raises `ReloadRefusedError`.
        """
        self._check()
        async with self._turn:
            self._check()

            async def serve(by: str, candidate: Candidate) -> ReloadReport:
                async def made() -> Candidate:
                    return candidate

                return await self._serve(by, made)

            yield serve

    def _check(self) -> None:
        if self._is_stopping:
            raise ReloadRefusedError("The gateway is stopping.", is_stopping=True)
        if self._apply is None:
            raise ReloadRefusedError("The gateway is starting.")

    async def _serve(self, by: str, read: Callable[[], Awaitable[Candidate]]) -> ReloadReport:
        self._manager.reloading()
        asked = ReloadReport(by, self._now(), self.last.generation, before=self.last.loaded)
        report = self.last = await self._run(asked, read)
        _log(report)
        try:
            self.on_report(report)
        except Exception:  # what is served is decided: who asked must learn of it
            log.exception("reload not reported", by=by)
        self._manager.ready(_status(report))
        return report

    async def _run(self, report: ReloadReport, read: Callable[[], Awaitable[Candidate]]) -> ReloadReport:
        assert self._apply is not None
        number = report.generation + 1
        try:
            candidate = await read()
            changes = await self._apply(candidate, report.by, number)
        except ConfigError as error:
            return replace(report, faults=error.faults)
        except ReloadFailedError as error:
            return replace(report, problem=str(error))
        except Exception:
            log.exception("reload failed", by=report.by)
            return replace(report, problem="the gateway failed to apply it; its log says why")
        self.watch(candidate.config.reload.watch)
        self.on_served(candidate)
        return replace(report, generation=number, changes=changes, warnings=candidate.warnings)


def _status(report: ReloadReport) -> str:
    """What `systemctl status` shows."""
    if report.is_accepted:
        return f"serves generation {report.generation} of the configuration"
    return (
        f"serves generation {report.generation} of the configuration; the last reload changed nothing: {report.why_not}"
    )


def _log(report: ReloadReport) -> None:
    # One that was accepted is logged by each process that serves it.
    if not report.is_accepted:
        log.error(
            "configuration rejected",
            by=report.by,
            generation=report.generation,
            reason=report.why_not,
            faults=[str(fault) for fault in report.faults[:MOST_LOGGED]],
        )
