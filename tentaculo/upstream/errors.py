"""How an exchange ends without its whole answer, and what is made of how it ended. Pure."""

from __future__ import annotations

from tentaculo.model.endpoint import Outcome
from tentaculo.model.failure import Failure


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


def outcome_of(status: int) -> tuple[Outcome, str]:
    """What a whole answer says of its upstream: a 5xx is its failure; a 4xx is its caller's, and shows that it works."""
    if status >= 500 and status != 501:
        return Outcome.FAILURE, f"answered {status}"
    return Outcome.SUCCESS, ""
