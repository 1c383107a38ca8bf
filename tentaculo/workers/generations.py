"""A reload of all workers, in two steps: all prepare the new configuration, then all serve it, or none does.

    supervisor   Prepare ─▶ each worker            Swap ─▶ each worker
    worker                 ─▶ Prepared, or its faults      ─▶ Swapped

A worker that cannot prepare, or ends meanwhile, has all of them keep what they serve. One that ends after it has prepared
is replaced by one that starts with the new configuration, since it is decided then.
"""

from __future__ import annotations

import asyncio
import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

import structlog

from tentaculo.config.errors import ConfigError, ConfigFault
from tentaculo.gateway.layer_keeper import Layers
from tentaculo.gateway.reloading import Reloadable, ReloadRefusedError, ReloadReport
from tentaculo.tasks import TaskGroup
from tentaculo.workers.channel import RELOADS, WorkerChannel
from tentaculo.workers.layer_messages import AskLayers, LayersReply, Wanted, WorkerLayers
from tentaculo.workers.worker_process import WorkerSpec

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Prepare:
    """To a worker: prepare this configuration. The attached file is a `WorkerSpec`."""

    number: int
    keeps_tokens: bool = False
    """Whether the accepted tokens stay, instead of those of the specification."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """From a worker: it has prepared, or it cannot. The attached file is a `Hindrance` or None."""

    number: int


@dataclass(frozen=True, slots=True)
class Swap:
    """To a worker: serve what was prepared, as `by` has asked for."""

    number: int
    by: str


@dataclass(frozen=True, slots=True)
class Swapped:
    """From a worker: it serves what it had prepared, or it failed to."""

    number: int
    is_done: bool


@dataclass(frozen=True, slots=True)
class Discard:
    """To a worker: drop what was prepared."""

    number: int


@dataclass(frozen=True, slots=True)
class Ask:
    """From a worker: somebody asks for a reload there."""

    number: int
    by: str


@dataclass(frozen=True, slots=True)
class Report:
    """To a worker: the attached file is the `ReloadReport` of a reload, or a `Refusal`.

    `number` is that of its `Ask`; 0 is for all workers. `is_recorder` says whether this worker records it for all.
    """

    number: int
    is_recorder: bool = False


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why no reload is possible now."""

    reason: str
    is_stopping: bool


@dataclass(frozen=True, slots=True)
class Hindrance:
    """Why a worker could not prepare a configuration."""

    faults: tuple[ConfigFault, ...] = ()
    problem: str = ""


Message = Prepare | Prepared | Swap | Swapped | Discard | Ask | Report | AskLayers | LayersReply


def write_file(value: object) -> int:
    """The descriptor of a file in memory with `value`, to be attached to a message. It may have secrets."""
    descriptor = os.memfd_create("tentaculo-reload")
    with open(descriptor, "wb", closefd=False) as file:
        pickle.dump(value, file)
    return descriptor


def read_file(descriptor: int) -> Any:
    """What is attached to a message. The descriptor is closed."""
    return _decode_file(_read_bytes(descriptor))


def _read_bytes(descriptor: int) -> bytes:
    with open(descriptor, "rb") as file:
        # Not from its position, which the processes share.
        return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0)


def _decode_file(text: bytes) -> Any:
    return pickle.loads(text)  # noqa: S301 - from a process of the same supervisor


def send(channel: WorkerChannel, message: Message, descriptor: int | None = None) -> None:
    """Send a message, with the file of `descriptor` where there is one."""
    channel.order(RELOADS + pickle.dumps(message), descriptor)


def send_with(channel: WorkerChannel, message: Message, value: object) -> None:
    """Send a message with `value` as its file."""
    descriptor = write_file(value)
    try:
        send(channel, message, descriptor)
    finally:
        os.close(descriptor)


def decode(message: bytes) -> Message:
    """A message of another process of the same supervisor."""
    found: Message = pickle.loads(message[len(RELOADS) :])  # noqa: S301 - see above
    return found


class WorkerReloads:
    """A worker's side: it applies what the supervisor hands down, and asks the supervisor for reloads."""

    def __init__(self, last: ReloadReport, channel: Callable[[], WorkerChannel | None]) -> None:
        """`last` is the last reload before this worker was started. `channel` leads to the supervisor."""
        self.last = last
        self._channel = channel
        self._layers = WorkerLayers(self._ask_layers)
        self.layers: Layers | None = self._layers
        self._gateway: Reloadable | None = None
        self.on_report: Callable[[ReloadReport], None] = lambda _: None
        """Called after each reload, where this worker records it for all."""
        self.on_swap: Callable[[], None] = lambda: None
        """Called when this worker serves another configuration."""
        self._numbers = count(1)
        self._asked: dict[int, asyncio.Future[ReloadReport]] = {}
        self._preparing: asyncio.Task[None] | None = None
        self._prepared: tuple[int, Any] | None = None
        self._tasks = TaskGroup("reload")

    def __repr__(self) -> str:
        return f"<WorkerReloads: generation {self.last.generation}>"

    def open(self, gateway: Reloadable) -> None:
        """Apply to `gateway` from now on."""
        self._gateway = gateway

    async def close(self) -> None:
        """Apply nothing any more."""
        self._layers.close()
        for asked in self._asked.values():
            if not asked.done():
                asked.set_exception(ReloadRefusedError("The gateway is stopping.", is_stopping=True))
        await self._tasks.close()

    async def reload(self, by: str) -> ReloadReport:
        """Have the supervisor reload all workers. Raises `ReloadRefusedError`."""
        channel = self._channel()
        if channel is None or self._gateway is None:
            raise ReloadRefusedError("The gateway is starting.")
        number = next(self._numbers)
        asked: asyncio.Future[ReloadReport] = asyncio.get_running_loop().create_future()
        self._asked[number] = asked
        try:
            send(channel, Ask(number, by))
            return await asked
        finally:
            del self._asked[number]

    def receive(self, message: bytes, descriptor: int | None) -> None:
        """Take a message of the supervisor, and the file that came with it."""
        match decode(message):
            case Prepare(number, keeps_tokens) if descriptor is not None:
                self._drop()
                # Read now: a task that is cancelled before it begins closes nothing.
                prepare = self._prepare(number, _read_bytes(descriptor), keeps_tokens=keeps_tokens)
                self._preparing = self._tasks.start(prepare, "prepare")
            case Swap(number, by):
                self._swap(number, by)
            case Discard():
                self._drop()
            case LayersReply(number) if descriptor is not None:
                self._layers.take(number, read_file(descriptor))
            case Report(number, is_recorder) if descriptor is not None:
                self._take(number, read_file(descriptor), is_recorder=is_recorder)

    def _ask_layers(self, message: AskLayers, wanted: Wanted) -> bool:
        channel = self._channel()
        if channel is None or self._gateway is None:
            return False
        send_with(channel, message, wanted)
        return True

    def _drop(self) -> None:
        if self._preparing is not None:
            self._preparing.cancel()
        self._preparing = self._prepared = None

    async def _prepare(self, number: int, text: bytes, *, keeps_tokens: bool) -> None:
        hindrance: Hindrance | None = None
        try:
            spec = await asyncio.to_thread(_decode_file, text)
            assert isinstance(spec, WorkerSpec)
            if self._gateway is None:
                hindrance = Hindrance(problem="it was not ready yet")
            else:
                hashes = None if keeps_tokens else spec.hashes
                self._prepared = (number, await self._gateway.prepare(spec.config, hashes))
        except ConfigError as error:
            hindrance = Hindrance(error.faults)
        except Exception:
            log.exception("reload failed", step="prepare")
            hindrance = Hindrance(problem="it failed to; its log says why")
        if (channel := self._channel()) is not None:
            send_with(channel, Prepared(number), hindrance)

    def _swap(self, number: int, by: str) -> None:
        prepared, self._prepared = self._prepared, None
        is_done = False
        try:
            if prepared is not None and prepared[0] == number and self._gateway is not None:
                self._gateway.swap(prepared[1], by)
                self.on_swap()
                is_done = True
        except Exception:
            # The supervisor replaces this process by one that starts with the new configuration.
            log.exception("reload failed", step="swap")
        if (channel := self._channel()) is not None:
            send(channel, Swapped(number, is_done))

    def _take(self, number: int, found: ReloadReport | Refusal, *, is_recorder: bool) -> None:
        if isinstance(found, ReloadReport):
            self.last = found
            if is_recorder:
                self.on_report(found)
        asked = self._asked.get(number)
        if asked is None or asked.done():
            return
        if isinstance(found, ReloadReport):
            asked.set_result(found)
        else:
            asked.set_exception(ReloadRefusedError(found.reason, is_stopping=found.is_stopping))
