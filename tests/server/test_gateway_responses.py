"""The bytes of a refusal. tests/server/test_dispatcher.py has the rest, on real sockets."""

from __future__ import annotations

from tentaculo.config.schema import CorsSettings
from tentaculo.model.failure import Failure, Problem
from tentaculo.security.cors import CorsPolicy
from tentaculo.server.gateway_responses import GatewayResponses

RESPONSES = GatewayResponses("front", CorsPolicy(CorsSettings(origins=("http://mine.example",))))


def lines(data: bytes) -> list[bytes]:
    return data.partition(b"\r\n\r\n")[0].split(b"\r\n")


def test_a_refusal_names_the_gateway_the_failure_and_the_request() -> None:
    head = lines(RESPONSES.problem_bytes(Problem(Failure.NOT_FOUND), request_id="r-1"))
    assert head[0] == b"HTTP/1.1 404 Not Found"
    assert {b"X-Request-ID: r-1", b"X-Correlation-Id: r-1", b"Server: Tentaculo-Link"} <= set(head)
    assert b"Proxy-Status: front; error=destination_not_found" in head
    assert b"Connection: close" in head


def test_a_listed_origin_may_read_it_and_another_may_not() -> None:
    problem = Problem(Failure.FORBIDDEN)
    listed = lines(RESPONSES.problem_bytes(problem, request_id="r", origin="http://mine.example"))
    assert b"Access-Control-Allow-Origin: http://mine.example" in listed
    assert [line for line in listed if line.startswith(b"Vary")] == [b"Vary: Accept, Origin"]
    other = lines(RESPONSES.problem_bytes(problem, request_id="r", origin="http://other.example"))
    assert not any(line.startswith(b"Access-Control") for line in other)


def test_the_answer_to_head_has_no_body() -> None:
    data = RESPONSES.problem_bytes(Problem(Failure.NOT_FOUND), request_id="r", with_body=False)
    assert data.endswith(b"\r\n\r\n")
    assert any(line.startswith(b"Content-Length: ") for line in lines(data))
