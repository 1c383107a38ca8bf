"""Desynchronisation: whatever a client sends, the upstream sees no request that it did not clearly make.

Each case is a connection that says something ambiguous, hides a request in it, and sends a marked one behind it. What
the client clearly made, our own strict reader says; the upstream must have seen exactly that, by the strict reading of
the bytes that reached it and by every careless one, and each answer must be that of its own request.
"""

from __future__ import annotations

import pytest

from tests.conftest import Start
from tests.support.wire import dial
from tests.wire.ambiguities import usual_shapes
from tests.wire.conftest import Service
from tests.wire.trials import REFUSALS, hold
from tests.wire.witness import Witness, listening


@pytest.mark.timeout(240)
@pytest.mark.usefixtures("only_warnings")
async def test_no_framing_makes_a_request_that_nobody_made(start: Start, service: Service) -> None:
    async with listening(Witness()) as witness:
        live = await start(service(witness.port, breaker={"failures": 1_000_000}))
        tally = await hold(usual_shapes(), live, witness)
    assert not tally.faults, f"{len(tally.faults)} faults, such as\n" + "\n".join(tally.faults[:10])
    # The model itself finds each way to end, so that none of the checks above is idle.
    assert min(tally.kinds[kind] for kind in ("open", "closed", "broken head", "broken body", "incomplete body")) > 50


@pytest.mark.parametrize(
    "lines",
    [
        b"POST /s/first HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: identity, chunked\r\n",
        b"POST /s/../first HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n",
        b"POST /s/../first HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n",
    ],
)
async def test_behind_a_request_whose_end_is_uncertain_nothing_is_read(
    start: Start, service: Service, lines: bytes
) -> None:
    """aiohttp's parser takes these for whole requests, and what follows them for others."""
    async with listening(Witness()) as witness:
        live = await start(service(witness.port))
        async with dial(live.port) as wire:
            await wire.send(lines + b"\r\n0\r\n\r\nGET /s/hidden-1 HTTP/1.1\r\nHost: h\r\n\r\n")
            response = await wire.response()
            assert (response.status in REFUSALS, response.get("connection")) == (True, "close")
            assert await wire.rest() == b""
    assert not witness.connections
