"""A wait ends when its condition holds, and says what it waited for when it never does."""

from __future__ import annotations

import socket

import pytest

from tests.support import waits
from tests.support.needs import need_ipv6
from tests.support.waits import PORTS, eventually, free_port


async def test_it_ends_as_soon_as_the_condition_holds() -> None:
    answers = iter([False, 0, "", [1]])
    await eventually(lambda: next(answers))
    assert list(answers) == []


async def test_it_fails_by_name_at_the_deadline() -> None:
    with pytest.raises(AssertionError, match=r"the moon did not become true within 0\.02 s"):
        await eventually(lambda: False, "the moon", seconds=0.02)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_free_port_can_be_bound(host: str) -> None:
    if ":" in host:
        need_ipv6()
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as server:
        port = free_port(host)
        assert port in PORTS
        server.bind((host, port))


def test_a_port_that_is_taken_is_not_free(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", free_port())) as server:
        taken = server.getsockname()[1]
        monkeypatch.setattr(waits, "PORTS", [taken] * 20 + [taken + 1])
        assert free_port() == taken + 1
