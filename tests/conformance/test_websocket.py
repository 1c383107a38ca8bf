"""kosoku: the Autobahn cases of RFC 6455 through the tunnel, once with the suite as the client, once as the server.

Each case must end as the standard says in every point: a result that is merely tolerated (NON-STRICT) fails too.
The cases of 12 and 13 judge compression, which the tunnel never touches.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from kosoku import FailureError, run_fuzzingclient, run_fuzzingserver

from tests.conformance import echo
from tests.support.gateway_process import running_gateway
from tests.support.wire import upstream

pytestmark = pytest.mark.timeout(120)
LARGE = ("9.*",)
COMPRESSED = ("12.*", "13.*")
SETS = [
    pytest.param(None, (*LARGE, *COMPRESSED), 247, id="protocol"),
    pytest.param(LARGE, None, 54, id="large"),
]
Cases = tuple[str, ...] | None


@asynccontextmanager
async def _gateway_to(port: int) -> AsyncIterator[int]:
    service = {
        "url": f"http://127.0.0.1:{port}",
        "probe": {"interval": 86400},
        "routes": [{"prefix": "/", "auth": "none"}],
    }
    async with running_gateway({"services": {"echo": service}}) as gateway:
        yield gateway.port


def _faults(results: list[Any]) -> list[str]:
    allowed = ("OK", "INFORMATIONAL")
    return [
        f"{case.case_id}: {case.behavior.value}, {case.result}; close {case.behavior_close.value}, {case.result_close}"
        for case in results
        if case.behavior.value not in allowed or case.behavior_close.value not in allowed
    ]


@pytest.mark.parametrize(("cases", "without", "count"), SETS)
async def test_a_client_that_breaks_the_rules_meets_the_upstream_unchanged(
    cases: Cases, without: Cases, count: int
) -> None:
    async with upstream(echo.serve) as server, _gateway_to(server.port) as port:
        try:
            results = await run_fuzzingclient(f"ws://127.0.0.1:{port}/", cases, without, concurrency=4)
        except FailureError as failure:
            results = failure.results
    assert _faults(results) == []
    assert len(results) == count


@pytest.mark.parametrize(("cases", "without", "count"), SETS)
async def test_an_upstream_that_breaks_the_rules_meets_the_client_unchanged(
    cases: Cases, without: Cases, count: int
) -> None:
    async with run_fuzzingserver(cases, without, port=0) as suite, _gateway_to(suite.port) as port:
        for number in range(1, count + 1):
            async with asyncio.timeout(30):
                await echo.call(port, f"/runCase?case={number}&agent=tunnel")
        await echo.call(port, "/updateReports?agent=tunnel")
        try:
            results = await asyncio.wait_for(suite.get_result(), 10)
        except FailureError as failure:
            results = failure.results
    assert _faults(results) == []
    assert len(results) == count
