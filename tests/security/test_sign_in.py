"""Signing in, and how often one address may try. tests/gateway/test_sign_in.py has it on sockets."""

from __future__ import annotations

import pytest

from tentaculo.security import sign_in
from tentaculo.security.sign_in import MOST_FAILURES, REGAINED, AttemptLimit, network_of


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_an_address_has_ten_attempts_and_regains_one_a_minute() -> None:
    clock = Clock()
    limit = AttemptLimit(clock)
    for _ in range(MOST_FAILURES):
        assert limit.wait("10.0.0.1") == 0
        limit.note_failure("10.0.0.1")
    assert limit.wait("10.0.0.1") == REGAINED
    assert limit.wait("10.0.0.2") == 0
    clock.now += REGAINED
    assert limit.wait("10.0.0.1") == 0
    limit.note_failure("10.0.0.1")
    assert limit.wait("10.0.0.1") == REGAINED
    clock.now += MOST_FAILURES * REGAINED
    for _ in range(MOST_FAILURES):
        assert limit.wait("10.0.0.1") == 0
        limit.note_failure("10.0.0.1")
    assert limit.wait("10.0.0.1") > 0


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2::", "2001:db8:1:2::"),
        ("fe80::1%eth0", "fe80::"),
        ("10.0.0.1:5000", "10.0.0.1"),
        ("[2001:db8::1]:5000", "2001:db8::"),
        ("", ""),
        ("x" * 1000, "x" * 64),
    ],
)
def test_a_network_of_64_bits_is_one_address(address: str, network: str) -> None:
    assert network_of(address) == network


def test_its_memory_is_constant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sign_in, "MOST_ADDRESSES", 3)
    limit = AttemptLimit(Clock())
    for _ in range(MOST_FAILURES):
        for number in range(3):
            limit.note_failure(f"10.0.0.{number}")
    limit.note_failure("10.0.0.9")
    assert repr(limit) == "<AttemptLimit: 3 addresses>"
    assert [limit.wait(f"10.0.0.{number}") > 0 for number in range(3)] == [False, True, True]
