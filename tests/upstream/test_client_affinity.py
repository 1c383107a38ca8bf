"""Where the cookie of a sticky session leads."""

from __future__ import annotations

from collections import Counter

import pytest

from tentaculo.model.health import Endpoint
from tentaculo.upstream.client_affinity import StickySessions
from tests.support.calls import counting_calls

ENDPOINTS = [Endpoint("s", "10.0.0.1", port) for port in range(1, 6)]
NAME = "tentaculo-endpoint-s"


def cookie(of: StickySessions, endpoint: Endpoint) -> bytes:
    """What a browser sends back."""
    return of.line(endpoint, is_encrypted=False).removeprefix(b"Set-Cookie: ").partition(b";")[0]


def leads(of: StickySessions, value: bytes) -> Endpoint | None:
    return of.endpoint_in([(b"accept", b"Accept", b"*/*"), (b"cookie", b"Cookie", value)])


def test_it_leads_back_in_every_process() -> None:
    one, other = StickySessions("s", ENDPOINTS), StickySessions("s", ENDPOINTS)
    for endpoint in ENDPOINTS:
        value = cookie(one, endpoint)
        assert leads(other, b"a=b; " + value + b"; c=d") == endpoint
        assert b"10.0.0" not in value


def test_the_line_is_secure_where_the_connection_is_encrypted() -> None:
    of = StickySessions("s", ENDPOINTS)
    plain, encrypted = (of.line(ENDPOINTS[0], is_encrypted=known) for known in (False, True))
    assert plain.startswith(f"Set-Cookie: {NAME}=".encode())
    assert plain.endswith(b"; Path=/; HttpOnly; SameSite=Lax\r\n")
    assert encrypted.endswith(b"; SameSite=Lax; Secure\r\n")


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"a=b",
        f"{NAME}=".encode(),
        f"{NAME}={'0' * 15}".encode(),
        f"{NAME}={'0' * 17}".encode(),
        f"{NAME}={'A' * 16}".encode(),
        f"{NAME}={'0' * 1_000_000}".encode(),
        f"x{NAME}={'0' * 16}".encode(),
        f"{NAME}-2={'0' * 16}".encode(),
    ],
    ids=lambda value: value[:40].decode(),
)
def test_what_the_gateway_never_set_leads_nowhere(value: bytes) -> None:
    assert leads(StickySessions("s", ENDPOINTS), value) is None


def test_an_endpoint_that_goes_takes_only_its_own_clients_with_it() -> None:
    before, after = StickySessions("s", ENDPOINTS), StickySessions("s", ENDPOINTS[:-1])
    values = [f"{NAME}={number:016x}".encode() for number in range(1000)]
    found = {value: leads(before, value) for value in values}
    assert all(count > 150 for count in Counter(found.values()).values())
    assert all(leads(after, value) == was for value, was in found.items() if was != ENDPOINTS[-1])


def test_the_cost_of_new_clients_is_in_proportion_to_the_endpoints() -> None:
    endpoints = [Endpoint("s", "10.0.0.1", port) for port in range(1, 31)]
    of = StickySessions("s", endpoints)
    with counting_calls() as calls:
        values = [(endpoint, cookie(of, endpoint)) for _ in range(10) for endpoint in endpoints]
    assert all(leads(of, value) == endpoint for endpoint, value in values)
    assert len({value for _, value in values}) == len(values)
    assert calls.total < 300 * len(values)  # 90; 1,300 where each value is sought again


def test_the_cost_of_a_long_cookie_is_small() -> None:
    of = StickySessions("s", ENDPOINTS)
    own = cookie(of, ENDPOINTS[2])
    for before in (b";" * 30_000, own[:-1] * 1_000, (own[:-1] + b";") * 1_000):
        with counting_calls() as calls:
            assert leads(of, before + b"; " + own) == ENDPOINTS[2]
        assert calls.total < 100
