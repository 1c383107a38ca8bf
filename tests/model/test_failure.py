"""The closed set of failures, and the problem that each becomes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable

import pytest

from tentaculo.model.failure import Blame, Failure, Problem, UpstreamError, outcome_of, outcome_of_error
from tentaculo.model.health import Outcome
from tentaculo.model.reason import Reason

# RFC 9209 section 2.3, those that a gateway of this kind can mean.
PROXY_STATUS = {
    "connection_limit_reached",
    "connection_refused",
    "connection_terminated",
    "connection_timeout",
    "destination_not_found",
    "destination_unavailable",
    "dns_error",
    "http_protocol_error",
    "http_request_denied",
    "http_request_error",
    "http_response_header_section_size",
    "http_response_incomplete",
    "http_response_timeout",
    "proxy_internal_error",
    "proxy_internal_response",
    "proxy_loop_detected",
    "tls_protocol_error",
}


def test_no_failure_is_another_ones_alias() -> None:
    assert len(list(Failure)) == len(Failure.__members__)


@pytest.mark.parametrize("part", [lambda failure: failure.error, lambda failure: failure.title])
def test_each_failure_has_words_of_its_own(part: Callable[[Failure], str]) -> None:
    # VX11's callers know one word for every token that is refused. What is missing is in a member of its own.
    failures = [failure for failure in Failure if failure is not Failure.MISSING_SCOPE]
    assert [word for word, count in Counter(map(part, failures)).items() if count > 1] == []


@pytest.mark.parametrize("failure", Failure)
def test_a_failure_is_complete(failure: Failure) -> None:
    assert 400 <= failure.status < 600
    assert failure.error.replace("_", "").isalpha()
    assert failure.error.islower()
    assert failure.title[0].isupper()
    assert failure.title.isprintable()
    assert not failure.title.endswith(".")
    assert failure.proxy_status in PROXY_STATUS or failure is Failure.CLIENT_LEFT


@pytest.mark.parametrize("failure", Failure)
def test_the_status_says_whose_fault_it_is(failure: Failure) -> None:
    assert (failure.status < 500) is (failure.blame is Blame.CLIENT)
    if failure.blame is Blame.UPSTREAM:
        assert failure.status in (502, 504)


def test_the_seeds_words_are_kept() -> None:
    assert (Failure.AUTH_REQUIRED.status, Failure.AUTH_REQUIRED.error) == (401, "auth_required")
    assert (Failure.FORBIDDEN.status, Failure.FORBIDDEN.error) == (403, "forbidden")
    assert (Failure.INVALID_EVENT.status, Failure.INVALID_EVENT.error) == (422, "schema_validation_failed")


@pytest.mark.parametrize("failure", Failure)
def test_a_problem_speaks_rfc_9457_and_the_seed(failure: Failure) -> None:
    assert json.loads(Problem(failure).to_json()) == {
        "type": "about:blank",
        "title": failure.title,
        "status": failure.status,
        "error": failure.error,
        "status_code": failure.status,
    }


def test_a_problem_may_say_more() -> None:
    problem = Problem(Failure.CIRCUIT_OPEN, "madre rests.", {"service": "madre", "retry_after": 7})
    members = json.loads(problem.to_json())
    assert (members["detail"], members["service"], members["retry_after"]) == ("madre rests.", "madre", 7)
    assert problem.status == 503


def test_the_seeds_rejected_event_has_its_own_status_word() -> None:
    extra = {"status": "rejected", "reason": "schema_validation_failed"}
    members = json.loads(Problem(Failure.INVALID_EVENT, None, extra).to_json())
    assert (members["status"], members["reason"], members["status_code"]) == ("rejected", extra["reason"], 422)


def test_two_problems_share_nothing() -> None:
    one, other = Problem(Failure.NOT_FOUND), Problem(Failure.NOT_FOUND)
    assert one.extra is not other.extra
    assert one.headers is not other.headers
    assert one != other


def test_a_problem_is_raised_and_says_what_it_is() -> None:
    with pytest.raises(Problem) as caught:
        raise Problem(Failure.BODY_TOO_LARGE, "The body is larger than 7 bytes.")
    assert caught.value.failure is Failure.BODY_TOO_LARGE
    assert "BODY_TOO_LARGE" in repr(caught.value)
    assert "larger than 7 bytes" in str(caught.value)


@pytest.mark.parametrize("failure", Failure)
def test_a_copy_is_equal_and_holds_no_frames(failure: Failure) -> None:
    error = UpstreamError(failure, "the connection closed", untouched=True)
    try:
        raise error
    except UpstreamError:
        copy = error.copy()
    assert (copy.failure, copy.detail, copy.untouched) == (failure, "the connection closed", True)
    assert str(copy) == "the connection closed"
    assert error.__traceback__ is not None
    assert copy.__traceback__ is None


@pytest.mark.parametrize("status", [100, 200, 301, 404, 429, 499, 501])
def test_a_status_that_is_not_the_endpoints_failure(status: int) -> None:
    assert outcome_of(status) == (Outcome.SUCCESS, "")


@pytest.mark.parametrize("status", [500, 502, 503, 504, 599])
def test_a_status_that_is_an_error_of_a_living_endpoint(status: int) -> None:
    assert outcome_of(status) == (Outcome.SERVER_ERROR, f"answered {status}")


@pytest.mark.parametrize("status", [429, 500, 501, 503])
def test_a_status_that_the_route_counts_as_a_failure(status: int) -> None:
    assert outcome_of(status, frozenset((status,))) == (Outcome.FAILURE, f"answered {status}")


@pytest.mark.parametrize("failure", Failure)
def test_an_error_without_a_whole_response(failure: Failure) -> None:
    timeouts = (Failure.CONNECT_TIMEOUT, Failure.FIRST_BYTE_TIMEOUT, Failure.IDLE_TIMEOUT)
    expected = Outcome.FAILURE if failure.blame is Blame.UPSTREAM else Outcome.NEUTRAL
    if failure is Failure.RESPONSE_HEAD_TOO_LARGE:
        expected = Outcome.SERVER_ERROR  # the limit is the gateway's, and the endpoint is alive
    assert outcome_of_error(failure) is (Outcome.TIMEOUT if failure in timeouts else expected)


def test_each_failure_of_a_service_has_a_reason_with_a_code() -> None:
    causes = {one: UpstreamError(one, "the detail").reason for one in Failure if one.blame is Blame.UPSTREAM}
    assert {one: cause for one, cause in causes.items() if not isinstance(cause, Reason)} == {}
    assert causes[Failure.BAD_RESPONSE] == "its response is not valid HTTP: the detail"
    refused = UpstreamError(Failure.CONNECT_REFUSED, "the detail", code="connection_refused")
    assert refused.reason == refused.copy().reason == "connection refused"
    assert UpstreamError(Failure.STOPPING, "the gateway is stopping").reason == "the gateway is stopping"
    assert isinstance(outcome_of(503)[1], Reason)
