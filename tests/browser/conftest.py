"""One Chromium for all tests of a run."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.browser import chromium


@pytest_asyncio.fixture(scope="session", loop_scope="session", autouse=True)
async def _browser() -> AsyncIterator[None]:
    if chromium.CHROMIUM is None:
        yield
        return
    async with chromium.started() as browser:
        chromium.shared.append(browser)
        yield
        chromium.shared.clear()
