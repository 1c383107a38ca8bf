"""How an exchange with an endpoint failed, and what its status says about the endpoint."""

from __future__ import annotations

import pytest

from tentaculo.model.endpoint import Outcome
from tentaculo.model.failure import Failure
from tentaculo.upstream.errors import UpstreamError, outcome_of


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
def test_a_status_that_is_the_endpoints_failure(status: int) -> None:
    outcome, reason = outcome_of(status)
    assert outcome is Outcome.FAILURE
    assert str(status) in reason
