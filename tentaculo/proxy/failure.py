"""How an exchange ends without its whole answer."""

from __future__ import annotations

from tentaculo.errors import Failure


class ExchangeError(Exception):
    """An exchange ended without its whole answer.

    `failure` says at which stage and whose it is; `detail` is for people and names no address. `untouched` is true
    when the connection died before any byte of the answer, so that the request may be tried again where that is safe.
    """

    def __init__(self, failure: Failure, detail: str, *, untouched: bool = False) -> None:
        super().__init__(detail)
        self.failure = failure
        self.detail = detail
        self.untouched = untouched
