"""Background tasks: each has an owner that waits for it, and a failure is told at once."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from tentaculo.tasks import TaskGroup


async def forever() -> None:
    await asyncio.Event().wait()


async def test_a_task_runs_and_is_forgotten_when_it_ends() -> None:
    group = TaskGroup("owner")

    async def work() -> int:
        return 7

    task = group.start(work(), "work")
    assert task.get_name() == "owner:work"
    assert (len(group), repr(group)) == (1, "<TaskGroup owner: 1 running>")
    assert await task == 7
    assert len(group) == 0


async def test_a_failure_is_logged_at_once_and_ends_nobody_else() -> None:
    group = TaskGroup("owner")
    error = RuntimeError("odd")

    async def fail() -> None:
        raise error

    with capture_logs() as logged:
        other = group.start(forever(), "other")
        failed = group.start(fail(), "failing")
        await asyncio.wait([failed])
    assert [(line["event"], line["task"], line["exc_info"]) for line in logged] == [
        ("task failed", "owner:failing", error)
    ]
    assert not other.done()
    await group.close()


async def test_closing_cancels_and_waits_until_each_has_ended() -> None:
    group, ended = TaskGroup("owner"), []
    started = asyncio.Event()

    async def careful(number: int) -> None:
        started.set()
        try:
            await forever()
        finally:
            for _ in range(5):
                await asyncio.sleep(0)
            ended.append(number)

    for number in range(3):
        group.start(careful(number), str(number))
    await started.wait()
    with capture_logs() as logged:
        await group.close()
    assert sorted(ended) == [0, 1, 2]
    assert (len(group), logged) == (0, [])


async def test_a_task_that_a_dying_one_starts_is_closed_too() -> None:
    group = TaskGroup("owner")
    late: list[asyncio.Task[None]] = []
    started = asyncio.Event()

    async def stubborn() -> None:
        started.set()
        try:
            await forever()
        finally:
            late.append(group.start(forever(), "late"))

    group.start(stubborn(), "stubborn")
    await started.wait()
    await group.close()
    assert late[0].cancelled()
    assert len(group) == 0


async def test_a_failure_while_closing_is_logged_and_not_raised() -> None:
    group = TaskGroup("owner")
    started = asyncio.Event()

    async def clumsy() -> None:
        started.set()
        try:
            await forever()
        finally:
            raise RuntimeError("odd")

    group.start(clumsy(), "clumsy")
    await started.wait()
    with capture_logs() as logged:
        await group.close()
    assert [line["task"] for line in logged] == ["owner:clumsy"]


async def test_closing_an_empty_group_is_nothing() -> None:
    group = TaskGroup("owner")
    await group.close()
    await group.close()
    assert len(group) == 0


async def test_who_closes_can_be_cancelled_itself() -> None:
    group = TaskGroup("owner")
    holding, release = asyncio.Event(), asyncio.Event()

    async def slow_to_end() -> None:
        try:
            await forever()
        finally:
            holding.set()
            await release.wait()

    group.start(slow_to_end(), "slow")
    await asyncio.sleep(0)
    closing = TaskGroup("closer")
    closer = closing.start(group.close(), "close")
    await holding.wait()
    closer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closer
    release.set()
    await group.close()
    assert len(group) == 0


class TestFinish:
    """Work that runs to its end although the one who awaits it is cancelled."""

    @staticmethod
    async def abandoned(group: TaskGroup, error: Exception | None) -> list[str]:
        """What is logged of work that ends after its caller was cancelled, and that it has ended."""
        began, may_end, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def work() -> None:
            began.set()
            await may_end.wait()
            ended.set()
            if error is not None:
                raise error

        caller = TaskGroup("caller").start(group.finish(work(), "work", expected=ValueError), "call")
        await began.wait()
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        with capture_logs() as logged:
            may_end.set()
            await ended.wait()
            while len(group):
                await asyncio.sleep(0)
            await asyncio.sleep(0)
        return [line["task"] for line in logged]

    async def test_its_result_and_its_error_are_those_of_the_work(self) -> None:
        group = TaskGroup("owner")

        async def work(error: Exception | None) -> int:
            if error is not None:
                raise error
            return 7

        with capture_logs() as logged:
            assert await group.finish(work(None), "work", expected=ValueError) == 7
            with pytest.raises(RuntimeError, match="odd"):
                await group.finish(work(RuntimeError("odd")), "work", expected=ValueError)
        assert (len(group), logged) == (0, [])

    async def test_it_ends_without_its_caller_and_says_what_nobody_expects(self) -> None:
        group = TaskGroup("owner")
        assert await self.abandoned(group, None) == []
        assert await self.abandoned(group, ValueError("as expected")) == []
        assert await self.abandoned(group, RuntimeError("odd")) == ["owner:work"]

    async def test_closing_ends_it(self) -> None:
        group = TaskGroup("owner")
        caller = TaskGroup("caller").start(group.finish(forever(), "work", expected=ValueError), "call")
        await asyncio.sleep(0)
        await group.close()
        with pytest.raises(asyncio.CancelledError):
            await caller
        assert len(group) == 0
