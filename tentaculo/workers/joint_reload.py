"""The supervisor's side of a reload: has all workers prepare a configuration and then serve it, or none of them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import replace
from itertools import count
from typing import Protocol

import structlog

from tentaculo.config.accepted_tokens import token_lines
from tentaculo.config.comparison import Changes, appliable, compare
from tentaculo.config.errors import ConfigError
from tentaculo.config.schema import Config
from tentaculo.gateway.configuration_source import Candidate, ConfigurationSource
from tentaculo.gateway.layer_reloads import LayerReloads
from tentaculo.gateway.reloading import Reloader, ReloadFailedError, ReloadRefusedError, ReloadReport
from tentaculo.net.systemd_notify import ServiceManager
from tentaculo.tasks import TaskGroup
from tentaculo.workers.channel import WorkerChannel
from tentaculo.workers.generations import (
    Ask,
    Discard,
    Hindrance,
    Prepare,
    Prepared,
    Refusal,
    Report,
    Swap,
    Swapped,
    decode,
    read_file,
    send,
    send_with,
)
from tentaculo.workers.layer_messages import AskLayers, LayersReply, Wanted, respond
from tentaculo.workers.worker_process import WorkerSpec

log = structlog.get_logger(__name__)

START_WITHIN = 30.0
"""Seconds that a reload waits for workers that are being started, before they are replaced."""
PREPARE_WITHIN = 60.0
"""Seconds that a worker may take to prepare a configuration before none serves it."""
SWAP_WITHIN = 10.0
"""Seconds that a worker may take to serve what it has prepared before it is replaced."""


class Peer(Protocol):
    """A worker's process."""

    number: int
    channel: WorkerChannel
    ready_at: float | None
    """None before it accepts requests."""


class Workers(Protocol):
    """The supervisor, as far as a reload needs it."""

    @property
    def peers(self) -> Sequence[Peer]:
        """The workers whose processes run."""

    @property
    def job(self) -> WorkerSpec:
        """What workers are started with."""

    def hold_starts(self, hold: bool) -> None:
        """Start no worker, until called with False."""

    def set_job(self, job: WorkerSpec, descriptor: int) -> None:
        """Start workers with `job` from now on, which is in the file of `descriptor`. Takes the descriptor over."""

    def kill(self, number: int) -> None:
        """Kill a worker, so that it is replaced."""


Reply = Hindrance | bool | None
"""What a worker has reported: why it could not prepare, None where it has; or whether it serves the new configuration."""
_ENDED = Hindrance(problem="it ended")
_LATE = Hindrance(problem=f"it did not respond within {PREPARE_WITHIN:g} s")


class JointReload:
    """Reloads all workers of a supervisor."""

    def __init__(self, workers: Workers, source: ConfigurationSource, manager: ServiceManager, read: Config) -> None:
        """`read` is the configuration of the start as it was read."""
        self._workers = workers
        self._read = read
        self._numbers = count(1)
        self._number = 0
        self._replies: dict[int, asyncio.Future[Reply]] = {}
        """Of each worker that has been sent a step and has not responded."""
        self._changed = asyncio.Event()
        self._tasks = TaskGroup("joint reload")
        self._reloader = Reloader(source, manager=manager)
        self._reloader.on_report = self._spread
        self._layers = None if source.first is None else LayerReloads(source, self._reloader, source.first)

    def __repr__(self) -> str:
        return f"<JointReload: {self._reloader!r}>"

    def open(self) -> None:
        """Reload from now on: every worker accepts requests."""
        self._reloader.open(self._apply, watch=self._read.reload.watch)
        if self._layers is not None:
            self._layers.open()

    def request(self) -> None:
        """Reload since the supervisor got SIGHUP."""
        self._reloader.request("SIGHUP")

    def paused(self) -> AbstractAsyncContextManager[None]:
        """As `Reloader.paused`."""
        return self._reloader.paused()

    def hand_over(self, request: Callable[[], None]) -> None:
        """As `Reloader.hand_over`."""
        self._reloader.hand_over(request)

    async def close(self) -> None:
        """Reload no more."""
        if self._layers is not None:
            await self._layers.close()
        await self._reloader.close()
        await self._tasks.close()

    def note_change(self) -> None:
        """A worker accepts requests now."""
        self._changed.set()

    def note_end(self, number: int) -> None:
        """A worker has ended."""
        self._reply(number, _ENDED)
        self._changed.set()

    def receive(self, peer: Peer, message: bytes, descriptor: int | None) -> None:
        """Take a message of a worker, and the file that came with it."""
        match decode(message):
            case Prepared(number) if descriptor is not None:
                hindrance = read_file(descriptor)
                if number == self._number:
                    self._reply(peer.number, hindrance)
            case Swapped(number, is_done):
                if number == self._number:
                    self._reply(peer.number, is_done)
            case AskLayers(number) if descriptor is not None:
                self._tasks.start(self._respond_layers(peer, number, read_file(descriptor)), "layers")
            case Ask(number, by):
                self._tasks.start(self._respond(peer, number, by), "report")

    def _reply(self, worker: int, reply: Reply) -> None:
        awaited = self._replies.get(worker)
        if awaited is not None and not awaited.done():
            awaited.set_result(reply)

    async def _respond(self, peer: Peer, number: int, by: str) -> None:
        try:
            found: ReloadReport | Refusal = await self._reloader.reload(by)
        except ReloadRefusedError as error:
            found = Refusal(str(error), error.is_stopping)
        send_with(peer.channel, Report(number), found)

    async def _respond_layers(self, peer: Peer, number: int, wanted: Wanted) -> None:
        send_with(peer.channel, LayersReply(number), await respond(self._layers, wanted))

    def _spread(self, report: ReloadReport) -> None:
        """Have every worker know of a reload, and a worker that is started later too."""
        job = replace(self._workers.job, last_reload=report)
        self._workers.set_job(job, job.write())
        recorder = min((peer.number for peer in self._serving()), default=0)
        for peer in self._workers.peers:
            send_with(peer.channel, Report(0, peer.number == recorder), report)

    def _serving(self) -> list[Peer]:
        return [peer for peer in self._workers.peers if peer.ready_at is not None]

    # -- the two steps -----------------------------------------------------------------------------------------

    async def _apply(self, candidate: Candidate, by: str, generation: int) -> Changes:
        read, job = self._read, self._workers.job
        changes = compare(read, candidate.config)
        # The addresses and the number of workers stay as they are, whatever the file says now.
        config = appliable(job.config, candidate.config)
        hashes = job.hashes if candidate.hashes is None else candidate.hashes
        if token_lines(hashes) != token_lines(job.hashes):
            changes = changes.with_key("auth.tokens")
        job = replace(job, config=config, hashes=hashes, generation=generation)
        with self._held_starts():
            await self._settle()
            descriptor = await asyncio.to_thread(job.write)
            try:
                serving = self._serving()
                self._number = next(self._numbers)
                await self._prepare(serving, descriptor, keeps_tokens=candidate.hashes is None)
                kept, descriptor = descriptor, -1
            finally:
                if descriptor >= 0:
                    os.close(descriptor)
            # It is decided. A worker that ends from now on is replaced by one with the new configuration.
            self._workers.set_job(job, kept)
            self._read = appliable(read, candidate.config)
            await self._swap(serving, by)
        return changes

    @contextmanager
    def _held_starts(self) -> Iterator[None]:
        # A worker that is started during the steps would serve what is no longer served.
        self._workers.hold_starts(True)
        try:
            yield
        finally:
            self._workers.hold_starts(False)

    async def _settle(self) -> None:
        """Wait for the workers that are being started: they do not receive messages in the middle of it."""

        def starting() -> list[Peer]:
            return [peer for peer in self._workers.peers if peer.ready_at is None]

        try:
            async with asyncio.timeout(START_WITHIN):
                while starting():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            for peer in starting():
                self._workers.kill(peer.number)
            while starting():
                self._changed.clear()
                await self._changed.wait()

    async def _prepare(self, peers: Collection[Peer], descriptor: int, *, keeps_tokens: bool) -> None:
        """The first step. Raises ConfigError or `ReloadFailedError`; then every worker has been told to drop it."""
        replies = self._await_replies(peers)
        for peer in peers:
            send(peer.channel, Prepare(self._number, keeps_tokens), descriptor)
        try:
            await self._wait(replies, PREPARE_WITHIN)
            hindered = {
                number: _LATE if not reply.done() else reply.result()
                for number, reply in replies.items()
                if not reply.done() or reply.result() is not None
            }
        except BaseException:
            self._discard(peers)
            raise
        if hindered:
            self._discard(peers)
            raise _why_not(hindered)

    async def _swap(self, peers: Collection[Peer], by: str) -> None:
        """The second step, which is not taken back: a worker that does not take it is replaced."""
        replies = self._await_replies(peers)
        for peer in peers:
            send(peer.channel, Swap(self._number, by))
        await self._wait(replies, SWAP_WITHIN)
        running = {peer.number for peer in self._workers.peers}
        for number, reply in replies.items():
            if number in running and not (reply.done() and reply.result() is True):
                log.error("worker did not reload", worker=number)
                self._workers.kill(number)

    def _discard(self, peers: Collection[Peer]) -> None:
        for peer in peers:
            send(peer.channel, Discard(self._number))

    def _await_replies(self, peers: Collection[Peer]) -> dict[int, asyncio.Future[Reply]]:
        loop = asyncio.get_running_loop()
        running = {peer.number: peer.channel for peer in self._workers.peers}
        self._replies = {peer.number: loop.create_future() for peer in peers}
        for peer in peers:
            if running.get(peer.number) is not peer.channel:
                # It ended since, and so does not end once more.
                self._reply(peer.number, _ENDED)
        return dict(self._replies)

    async def _wait(self, replies: dict[int, asyncio.Future[Reply]], seconds: float) -> None:
        if replies:
            await asyncio.wait(replies.values(), timeout=seconds)
        self._replies = {}


def _why_not(hindered: dict[int, Reply]) -> Exception:
    for reply in hindered.values():
        if isinstance(reply, Hindrance) and reply.faults:
            return ConfigError(reply.faults)
    number, reply = next(iter(hindered.items()))
    problem = reply.problem if isinstance(reply, Hindrance) else ""
    return ReloadFailedError(f"worker {number} could not prepare it: {problem}")
