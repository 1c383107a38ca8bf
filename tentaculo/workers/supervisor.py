"""The supervisor: starts the workers, replaces those that end, passes on their messages, and stops them all.

It accepts no request itself. Each worker is a new process with its own channel (`channel.py`). Each side notices by the
end of the channel that the other has ended.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext

import structlog

from tentaculo.config.schema import Config
from tentaculo.gateway.configuration_source import ConfigurationSource
from tentaculo.server import listeners
from tentaculo.server.handover import Handover, Predecessor, ProcessContext
from tentaculo.server.listeners import STOP_SIGNALS, ignore_hangup
from tentaculo.server.listening_sockets import Sockets
from tentaculo.server.start_signals import end_if_stopped
from tentaculo.tasks import TaskGroup
from tentaculo.workers.channel import (
    ADOPT,
    LEAD,
    LEAD_RELEASED,
    LEADER,
    PING,
    PONG,
    READY,
    RELEASE,
    RELOADS,
    RETIRE,
    SERVING,
    STOP,
    STOP_NOW,
    STOPPING,
    WorkerChannel,
    pair,
    recipients,
)
from tentaculo.workers.joint_reload import JointReload
from tentaculo.workers.worker_process import ATTEMPTS, Worker, WorkerSlot, WorkerSpec, how_it_ended

log = structlog.get_logger(__name__)

COMMAND = (sys.executable, "-m", "tentaculo.workers")
"""The command that starts a worker. It is a new process and not a fork, since this process has threads."""
KILL_AFTER = 15.0
"""Seconds beyond its grace that a worker may take to end before it is killed."""
PING_EVERY = 5.0
"""Seconds between two pings of every worker, which show that its event loop runs."""
MOST_UNANSWERED = 6
"""Pings without a response, in a row, before a worker is killed: the kernel still gives it connections."""


class WorkersFailed(Exception):  # noqa: N818 - its text is shown to the operator
    """The workers cannot be started. The text is the reason."""


class Supervisor:
    """Keeps one worker in each place until a stop. Everything happens in callbacks of the event loop."""

    def __init__(
        self,
        job: WorkerSpec,
        on_ready: Callable[[], None],
        command: Sequence[str] = COMMAND,
        sockets: Sockets = (),
        context: ProcessContext | None = None,
    ) -> None:
        """`on_ready` is called once every worker accepts requests. `command` receives three arguments: the number of the worker
        and the descriptors of its specification and of its channel.

        `sockets` are the listening sockets of each worker, which the job lists by their descriptors. `context` is as for
        `supervise`.
        """
        context = context or ProcessContext()
        self._manager = context.manager
        self._handover = context.handover
        self._predecessor = context.predecessor
        self._sockets = [sock for group in sockets for sock in group]
        self._tasks = TaskGroup("supervisor")
        self._adopted: set[int] = set()
        """The numbers of workers whose connections the others accept."""
        self._job = job
        self._command = command
        self._descriptor = job.write()
        self._on_ready = on_ready
        self._places = {number: WorkerSlot() for number in range(1, job.workers + 1)}
        self._serving = len(self._places)
        """The workers that serve, as all of them know."""
        self._has_started = False
        self._is_stopping = False
        self._is_retiring = False
        self._handing_over: asyncio.Task[None] | None = None
        self._failure: str | None = None
        self._pings: asyncio.TimerHandle | None = None
        self._over = asyncio.Event()
        self._held: set[int] | None = None
        """The numbers of the workers that are to be started after a reload; None where none runs."""
        self._reload: JointReload | None = None

    def __repr__(self) -> str:
        return f"<Supervisor: {len(self._workers)} of {len(self._places)} workers>"

    def reload_from(self, source: ConfigurationSource, read: Config) -> None:
        """Reload from `source` when asked to. `read` is the configuration of the start as it was read."""
        self._reload = JointReload(self, source, self._manager, read)

    async def run(self) -> None:
        """Until every worker has been stopped. Raises `WorkersFailed`."""
        loop = asyncio.get_running_loop()
        for one in STOP_SIGNALS:
            loop.add_signal_handler(one, self.stop)
        reload = self._reload
        loop.add_signal_handler(signal.SIGHUP, ignore_hangup if reload is None else reload.request)
        loop.add_signal_handler(signal.SIGUSR2, self._replace_all)
        end_if_stopped()
        if self._predecessor is not None:
            self._tasks.start(self._lead_after(self._predecessor), "lead")
        try:
            for number in self._places:
                self._start(number)
            self._ping()
            await self._over.wait()
        finally:
            if self._pings is not None:
                self._pings.cancel()
            for one in (*STOP_SIGNALS, signal.SIGHUP, signal.SIGUSR2):
                loop.remove_signal_handler(one)
            if reload is not None:
                await reload.close()
            os.close(self._descriptor)
            await self._tasks.close()
        if self._failure is not None:
            raise WorkersFailed(self._failure)

    @property
    def job(self) -> WorkerSpec:
        """What workers are started with."""
        return self._job

    @property
    def peers(self) -> list[Worker]:
        """The workers whose processes run."""
        return self._workers

    @property
    def _workers(self) -> list[Worker]:
        return [place.worker for place in self._places.values() if place.worker is not None]

    # -- starting and replacing --------------------------------------------------------------------------------

    def _start(self, number: int) -> None:
        place = self._places[number]
        place.timer = None
        if self._held is not None:
            self._held.add(number)
            return
        ours, theirs = pair()
        try:
            process = self._spawn(number, theirs)
        except OSError as error:
            ours.close()
            log.error("worker not started", worker=number, reason=error.strerror)
            self._replace(
                number, place.restart_policy.pause(0.0, was_ready=False, was_stopped=False), f"{error.strerror}"
            )
            return
        finally:
            theirs.close()
        channel = WorkerChannel(
            ours,
            on_message=lambda message: self._receive(worker, message),
            on_end=lambda: self._end(worker),
            on_file=lambda message, descriptor: self._receive_reload(worker, message, descriptor),
        )
        worker = place.worker = Worker(number, process, channel)
        log.info("worker started", worker=number, pid=process.pid)
        if self._is_stopping:
            channel.order(STOP)
        if self._job.has_predecessor and self._predecessor is None:
            channel.order(LEAD)

    def _spawn(self, number: int, channel: socket.socket) -> subprocess.Popen[bytes]:
        descriptors = (self._descriptor, channel.fileno())
        inherited = (*descriptors, *(listening for group in self._job.sockets for listening in group))
        return subprocess.Popen(  # noqa: S603 - this very program
            [*self._command, *map(str, (number, *descriptors))],
            stdin=subprocess.DEVNULL,
            pass_fds=inherited,
            # Ctrl-C in the terminal must reach the supervisor only, which stops the workers.
            process_group=0,
        )

    def _end(self, worker: Worker) -> None:
        """A worker is gone."""
        # The worker closes its end of the channel last.
        code = worker.process.wait()
        place = self._places[worker.number]
        place.worker = None
        if self._reload is not None:
            self._reload.note_end(worker.number)
        if self._is_stopping or self._is_retiring:
            if worker.number == LEADER:
                self._release_lead()
            self._finish()
            return
        self._have_adopted(worker.number)
        self._report_serving()
        lived = 0.0 if worker.ready_at is None else asyncio.get_running_loop().time() - worker.ready_at
        pause = place.restart_policy.pause(lived, was_ready=worker.ready_at is not None, was_stopped=code == 0)
        (log.info if code == 0 else log.error)(
            "worker ended", worker=worker.number, how=how_it_ended(code), next_in=pause
        )
        self._replace(worker.number, pause, how_it_ended(code))

    def _replace(self, number: int, pause: float, how: str) -> None:
        # Where others serve, one hopeless place is no reason to end them.
        hopeless = [place.restart_policy.is_hopeless for place in self._places.values()]
        if all(hopeless) or (any(hopeless) and not self._has_started):
            self._failure = f"worker {number} ended {ATTEMPTS} times before it took requests, at last with {how}"
            self._stop()
            return
        self._places[number].timer = asyncio.get_running_loop().call_later(pause, self._start, number)

    # -- messages of workers --------------------------------------------------------------------------------------

    def _receive(self, worker: Worker, message: bytes) -> None:
        if message == PONG:
            worker.unanswered = 0
            return
        if message == READY:
            self._note_ready(worker)
            return
        if message == STOPPING:
            worker.is_stopping = True
            self._have_adopted(worker.number)
            self._report_serving()
            return
        if message == LEAD_RELEASED:
            self._release_lead()
            return
        if message.startswith(RELOADS):
            self._receive_reload(worker, message)
            return
        channels = {other.number: other.channel for other in self._workers}
        for number in recipients(message, worker.number, channels):
            channels[number].send(message)

    def _receive_reload(self, worker: Worker, message: bytes, descriptor: int | None = None) -> None:
        if self._reload is not None:
            self._reload.receive(worker, message, descriptor)
        elif descriptor is not None:
            os.close(descriptor)

    def _have_adopted(self, number: int) -> None:
        """Have the other workers accept the connections of one that does so no more, until its successor does."""
        if not self._sockets or self._is_retiring:
            return
        self._adopted.add(number)
        for other in self._workers:
            if other.number not in self._adopted and other.ready_at is not None:
                other.channel.order(ADOPT + bytes([number]))

    def _note_ready(self, worker: Worker) -> None:
        worker.ready_at = asyncio.get_running_loop().time()
        log.info("worker ready", worker=worker.number, pid=worker.process.pid)
        if worker.number in self._adopted:
            self._adopted.discard(worker.number)
            for other in self._workers:
                other.channel.order(RELEASE + bytes([worker.number]))
        for number in self._adopted:
            worker.channel.order(ADOPT + bytes([number]))
        if self._reload is not None:
            self._reload.note_change()
        self._report_serving()
        if self._has_started or self._is_stopping:
            return
        if all(place.worker and place.worker.ready_at for place in self._places.values()):
            self._has_started = True
            self._on_ready()
            if self._reload is not None:
                self._reload.open()

    # -- for a reload ------------------------------------------------------------------------------------------

    def hold_starts(self, hold: bool) -> None:
        """Start no worker, until called with False."""
        held, self._held = self._held, set() if hold else None
        if not hold and not self._is_stopping:
            for number in sorted(held or ()):
                self._start(number)

    def set_job(self, job: WorkerSpec, descriptor: int) -> None:
        """Start workers with `job` from now on, which is in the file of `descriptor`. Takes the descriptor over."""
        os.close(self._descriptor)
        self._job, self._descriptor = job, descriptor

    def kill(self, number: int) -> None:
        """Kill a worker, so that it is replaced."""
        worker = self._places[number].worker
        if worker is not None:
            log.error("worker killed", worker=number, pid=worker.process.pid)
            worker.process.kill()

    def _report_serving(self) -> None:
        """Report to the workers how many of them share the traffic. They begin with the number of all."""
        number = sum(worker.ready_at is not None and not worker.is_stopping for worker in self._workers)
        if self._has_started and number and number != self._serving:
            self._serving = number
            for worker in self._workers:
                worker.channel.order(SERVING + bytes([number]))

    def _ping(self) -> None:
        for worker in self._workers:
            if worker.ready_at is None:
                # It still loads modules, for which there is no time limit.
                continue
            if worker.unanswered >= MOST_UNANSWERED:
                log.error("worker not responding", worker=worker.number, pid=worker.process.pid)
                worker.process.kill()
            else:
                worker.unanswered += 1
                worker.channel.order(PING)
        self._pings = asyncio.get_running_loop().call_later(PING_EVERY, self._ping)

    # -- replacing all of them ---------------------------------------------------------------------------------

    async def _lead_after(self, predecessor: Predecessor) -> None:
        """Have worker 1 lead once the predecessor leads no more."""
        await predecessor.lead_released()
        self._predecessor = None
        for worker in self._workers:
            worker.channel.order(LEAD)

    def _replace_all(self) -> None:
        if self._handover is None or self._is_stopping or not self._has_started:
            log.warning("successor not started", reason="the gateway is starting or stopping")
        elif self._handing_over is None or self._handing_over.done():
            self._handing_over = self._tasks.start(self._hand_over(self._handover), "handover")

    async def _hand_over(self, handover: Handover) -> None:
        """Have a successor take the listening sockets over. Then the workers finish what has begun."""
        async with nullcontext() if self._reload is None else self._reload.paused():
            if not await handover.run(self._sockets):
                return
            self._is_retiring = True
            if self._reload is not None and handover.successor is not None:
                # The successor reads and writes the configuration from now on.
                self._reload.hand_over(handover.successor.request_reload)
        if self._reload is not None:
            await self._reload.close()
        for place in self._places.values():
            if place.timer is not None:
                place.timer.cancel()
        left = [sock for sock in self._sockets if sock.getsockname()[:2] not in handover.kept]
        await listeners.empty_queues(left)
        for worker in self._workers:
            worker.channel.order(RETIRE)
        self._finish()

    def _release_lead(self) -> None:
        if self._handover is not None and self._handover.successor is not None:
            self._handover.successor.release_lead()

    # -- stopping ----------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Stop every worker and take no new ones; a second call does not wait for requests."""
        if not self._is_stopping:
            self._stop()
            return
        for worker in self._workers:
            worker.channel.order(STOP_NOW)
        asyncio.get_running_loop().call_later(KILL_AFTER, self._kill)

    def _stop(self) -> None:
        """Stop every worker, once. The supervisor ends with the last one."""
        self._is_stopping = True
        if self._reload is not None:
            self._tasks.start(self._reload.close(), "end of reloads")
        if self._handing_over is not None and not self._is_retiring:
            self._handing_over.cancel()
        log.info("stopping", workers=len(self._workers))
        if not self._is_retiring:
            self._manager.stopping()
        for place in self._places.values():
            if place.timer is not None:
                place.timer.cancel()
        loop = asyncio.get_running_loop()
        loop.call_later(self._job.config.server.grace + KILL_AFTER, self._kill)
        self._tasks.start(self._order_stop(), "stop")

    async def _order_stop(self) -> None:
        """Have the workers accept what waits in the shared queues, which end with the last socket; then stop them."""
        kept = self._is_retiring or self._job.keeps_sockets
        if self._workers and not kept:
            await listeners.empty_queues(self._sockets)
        for sock in self._sockets:
            sock.close()
        for worker in self._workers:
            worker.channel.order(STOP)
        self._finish()

    def _kill(self) -> None:
        for worker in self._workers:
            self.kill(worker.number)

    def _finish(self) -> None:
        if not self._workers:
            self._over.set()
