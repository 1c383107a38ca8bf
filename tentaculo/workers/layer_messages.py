"""Changes of the configuration in several workers: a worker asks, and the supervisor, which reads it, serves and keeps.

worker   AskLayers ─▶ supervisor   adopts, as a reload of all workers ─▶ LayersReply
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

import structlog

from tentaculo.config.comparison import Changes
from tentaculo.config.errors import ConfigError, ConfigFault
from tentaculo.config.layers import Sources
from tentaculo.gateway.layer_keeper import Adoption, LayerConflictError, NotKeptError, NotNowError, NotServedError
from tentaculo.gateway.layer_reloads import LayerReloads

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class AskLayers:
    """From a worker: the attached file is a `Wanted`."""

    number: int


@dataclass(frozen=True, slots=True)
class LayersReply:
    """To a worker: the attached file is what its `AskLayers` of this number gave, or a `LayersFailure`."""

    number: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a worker asks for: the sources that are served, or with an adoption to serve another layer."""

    adoption: Adoption | None = None
    by: str = ""


@dataclass(frozen=True, slots=True)
class LayersFailure:
    """Why nothing was changed. An exception of several arguments cannot be sent as it is."""

    kind: str
    reason: str = ""
    faults: tuple[ConfigFault, ...] = ()
    is_foreign: bool = False
    is_stopping: bool = False

    def exception(self) -> Exception:
        """The exception that it stands for."""
        match self.kind:
            case "config":
                return ConfigError(self.faults)
            case "conflict":
                return LayerConflictError(self.reason, is_foreign=self.is_foreign)
            case "not kept":
                return NotKeptError(self.reason)
            case "not now":
                return NotNowError(self.reason, is_stopping=self.is_stopping)
        return NotServedError(self.reason)


async def respond(layers: LayerReloads | None, wanted: Wanted) -> Sources | Changes | LayersFailure:
    """The supervisor's response."""
    if layers is None:
        return LayersFailure("not now", "The configuration of this gateway is from no file.")
    try:
        if wanted.adoption is None:
            return await layers.describe()
        return await layers.adopt(wanted.adoption, wanted.by)
    except ConfigError as error:
        return LayersFailure("config", faults=error.faults)
    except LayerConflictError as error:
        return LayersFailure("conflict", str(error), is_foreign=error.is_foreign)
    except NotKeptError as error:
        return LayersFailure("not kept", str(error))
    except NotNowError as error:
        return LayersFailure("not now", str(error), is_stopping=error.is_stopping)
    except NotServedError as error:
        return LayersFailure("not served", str(error))
    except Exception:  # the worker would wait for ever
        log.exception("change of a worker failed")
        return LayersFailure("not served", "The supervisor failed; its log says why.")


class WorkerLayers:
    """A worker's side: the layers as the supervisor has them."""

    def __init__(self, ask: Callable[[AskLayers, Wanted], bool]) -> None:
        """`ask` sends a message with its file to the supervisor; False where there is no channel yet."""
        self._ask = ask
        self._numbers = count(1)
        self._asked: dict[int, asyncio.Future[Any]] = {}

    def __repr__(self) -> str:
        return f"<WorkerLayers: {len(self._asked)} asked>"

    async def describe(self) -> Sources:
        """What is served was made of this. Raises `NotNowError`."""
        sources: Sources = await self._send(Wanted())
        return sources

    async def adopt(self, adoption: Adoption, by: str) -> Changes:
        """As `LayerReloads.adopt`, for all workers."""
        changes: Changes = await self._send(Wanted(adoption, by))
        return changes

    def take(self, number: int, found: Any) -> None:
        """Take a reply of the supervisor."""
        asked = self._asked.get(number)
        if asked is None or asked.done():
            return
        if isinstance(found, LayersFailure):
            asked.set_exception(found.exception())
        else:
            asked.set_result(found)

    def close(self) -> None:
        """Ask for nothing any more."""
        for asked in self._asked.values():
            if not asked.done():
                asked.set_exception(NotNowError("The gateway is stopping.", is_stopping=True))

    async def _send(self, wanted: Wanted) -> Any:
        number = next(self._numbers)
        asked = self._asked[number] = asyncio.get_running_loop().create_future()
        try:
            if not self._ask(AskLayers(number), wanted):
                raise NotNowError("The gateway is starting.")
            return await asked
        finally:
            del self._asked[number]
