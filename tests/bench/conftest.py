"""Results as a run leaves them."""

from __future__ import annotations

import pytest

from bench.results import CaseResult, Sample


@pytest.fixture
def get() -> CaseResult:
    """Three rounds; the second was disturbed for both, and one peer failed."""
    titles = {"ours": "Tentáculo Link", "nginx": "nginx", "envoy": "Envoy", "caddy": "Caddy", "fastify": "@fastify"}
    rates = {"ours": (520.0, 250.0, 540.0), "nginx": (1000.0, 500.0, 1000.0), "envoy": (600.0, 240.0, 500.0)}
    result = CaseResult("get", {"processor": "P", "measured": "M"}, 5.0, 3, titles, {"nginx": "1.22 | 1 worker"})
    result.commands = {"nginx": ["taskset", "-c", "0", "nginx", "-c", "$WORK/a b"], "wrk": ["wrk", "-H", "A: b"]}
    result.samples = [
        Sample(peer, number, {"rps": rate, "cpu_us": 20.0})
        for peer, all_rates in rates.items()
        for number, rate in enumerate(all_rates, 1)
    ]
    result.samples += [Sample("caddy", number, error="it <broke>\nTraceback") for number in (1, 2, 3)]
    return result
