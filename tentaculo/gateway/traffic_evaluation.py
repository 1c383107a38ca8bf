"""Evaluates the requests of an endpoint where they contradict what is known of its health."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable

from tentaculo.health.board import Board
from tentaculo.model.health import Endpoint, Transition
from tentaculo.upstream.circuit_breaker import CircuitBreakers

_EVALUATION_GAP = 0.1
"""Least seconds between two evaluations of one endpoint's requests."""


class TrafficEvaluation:
    """Probes an endpoint now, and evaluates its requests, where the outcome of one contradicts its health.

    `window` gives the seconds for which the requests of an endpoint count, and `note` takes what has changed.
    """

    def __init__(
        self,
        board: Board,
        breakers: CircuitBreakers,
        *,
        probe_now: Callable[[Endpoint], None],
        window: Callable[[Endpoint], float],
        note: Callable[[Iterable[Transition]], None],
    ) -> None:
        self._board = board
        self._breakers = breakers
        self._probe_now = probe_now
        self._window = window
        self._note = note
        self._evaluated: dict[Endpoint, float] = {}
        self._reevaluations: dict[Endpoint, asyncio.TimerHandle] = {}

    def __repr__(self) -> str:
        return f"<TrafficEvaluation: {len(self._reevaluations)} to be evaluated again>"

    def note_request(self, upstream: Endpoint, is_success: bool) -> None:
        """Take the outcome of a request.

        The evaluation runs at most every `_EVALUATION_GAP` seconds. It always runs where the breaker has opened, since
        no other request may follow that could start it.
        """
        if not self._board.is_contradicted(upstream, is_success=is_success):
            return
        self._probe_now(upstream)
        moment = time.monotonic()
        if self._breakers.of(upstream).is_closed and moment < self._evaluated.get(upstream, 0.0) + _EVALUATION_GAP:
            return
        self._evaluated[upstream] = moment
        self._evaluate(upstream)

    def _evaluate(self, upstream: Endpoint) -> None:
        self._note(self._board.evaluate_traffic(upstream))
        if self._board.is_by_traffic_only(upstream) and upstream not in self._reevaluations:
            # No probe shows when its requests have stopped failing, and there may be no more of them.
            self._reevaluations[upstream] = asyncio.get_running_loop().call_later(
                self._window(upstream), self._reevaluate, upstream
            )

    def _reevaluate(self, upstream: Endpoint) -> None:
        del self._reevaluations[upstream]
        self._evaluate(upstream)

    def forget(self) -> None:
        """Forget the endpoints that are no longer configured."""
        self._evaluated = {one: moment for one, moment in self._evaluated.items() if self._board.has(one)}
        for upstream in [one for one in self._reevaluations if not self._board.has(one)]:
            self._reevaluations.pop(upstream).cancel()

    def stop(self) -> None:
        """Evaluate nothing again."""
        for timer in self._reevaluations.values():
            timer.cancel()
        self._reevaluations.clear()
