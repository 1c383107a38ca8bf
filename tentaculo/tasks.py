"""The only place that starts background tasks: each has a name and an owner that waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from functools import partial
from typing import Any, TypeVar, cast

import structlog

log = structlog.get_logger(__name__)

T = TypeVar("T")


class TaskGroup:
    """Background tasks of one owner.

    A task that fails is logged at once, not when the garbage collector finds it. `close()` cancels what is left and
    waits for it. Unlike `asyncio.TaskGroup`, one failure does not end the others.
    """

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._tasks: set[asyncio.Task[Any]] = set()

    def __repr__(self) -> str:
        return f"<TaskGroup {self._owner}: {len(self._tasks)} running>"

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Run `work` in the background; `name` shows in logs and debuggers."""
        task = asyncio.get_running_loop().create_task(work, name=f"{self._owner}:{name}")
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    async def finish(self, work: Coroutine[Any, Any, T], name: str, *, expected: type[Exception]) -> T:
        """The result of `work`, which runs to its end also where the caller is cancelled.

        What `work` raises is raised here. Once the caller is gone it is logged, unless it is an `expected` error.
        """

        async def outcome() -> tuple[T, None] | tuple[None, Exception]:
            try:
                return await work, None
            except Exception as error:  # noqa: BLE001 - it is raised below
                return None, error

        task = asyncio.get_running_loop().create_task(outcome(), name=f"{self._owner}:{name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # It has not begun where the task is cancelled at once.
        task.add_done_callback(lambda _: work.close())
        try:
            result, error = await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(partial(_log_unexpected, expected=expected))
            raise
        if error is not None:
            raise error
        return cast(T, result)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log(task, error)

    async def close(self) -> None:
        """Cancel every task that still runs and wait until each has ended, those included that they start meanwhile."""
        while tasks := list(self._tasks):
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def _log_unexpected(task: asyncio.Task[tuple[Any, Exception | None]], expected: type[Exception]) -> None:
    if not task.cancelled() and (error := task.result()[1]) is not None and not isinstance(error, expected):
        _log(task, error)


def _log(task: asyncio.Task[Any], error: BaseException) -> None:
    log.error("task failed", task=task.get_name(), exc_info=error)
