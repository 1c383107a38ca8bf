"""The native application on a real socket."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.web.fleet import Gateway, State, running


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    async with running(State()) as served:
        yield served
