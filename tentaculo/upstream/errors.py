"""The error that ends an exchange without its whole response, and the outcome of every exchange. Pure."""

from __future__ import annotations

from tentaculo.model.endpoint import Outcome
from tentaculo.model.failure import Blame, Failure


class UpstreamError(Exception):
    """An exchange ended without its whole answer.

    `failure` says at which stage and whose it is; `detail` is for people and names no address. `untouched` is true
    when the connection died before any byte of the answer, so that the request may be tried again where that is safe.
    `untaken` is true when it is certain that the upstream has not received any byte of the request either.
    """

    def __init__(self, failure: Failure, detail: str, *, untouched: bool = False, untaken: bool = False) -> None:
        super().__init__(detail)
        self.failure = failure
        self.detail = detail
        self.untouched = untouched
        self.untaken = untaken

    def copy(self) -> UpstreamError:
        """A copy without a traceback, to keep or to raise again: a traceback holds frames, and through them its owner."""
        return UpstreamError(self.failure, self.detail, untouched=self.untouched, untaken=self.untaken)


_TIMEOUTS = frozenset((Failure.CONNECT_TIMEOUT, Failure.FIRST_BYTE_TIMEOUT, Failure.IDLE_TIMEOUT))


def outcome_of(status: int, breaking: frozenset[int] = frozenset()) -> tuple[Outcome, str]:
    """The outcome of a whole response, and its reason in words.

    A 5xx is an error of the service, and shows that it is alive, as a 4xx does. `breaking` are statuses that count as
    failures of the endpoint.
    """
    if status in breaking:
        return Outcome.FAILURE, f"answered {status}"
    if status >= 500 and status != 501:
        return Outcome.SERVER_ERROR, f"answered {status}"
    return Outcome.SUCCESS, ""


def outcome_of_error(failure: Failure) -> Outcome:
    """The outcome of an exchange without its whole response."""
    if failure.blame is not Blame.UPSTREAM:
        return Outcome.NEUTRAL
    return Outcome.TIMEOUT if failure in _TIMEOUTS else Outcome.FAILURE
