"""How an exchange with an endpoint failed, and what its status says about the endpoint."""

from __future__ import annotations

import pytest

from tentaculo.model.endpoint import Outcome
from tentaculo.model.failure import Blame, Failure
from tentaculo.upstream.errors import UpstreamError, outcome_of, outcome_of_error


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
    assert outcome_of_error(failure) is (Outcome.TIMEOUT if failure in timeouts else expected)
