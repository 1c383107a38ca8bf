"""What is simulated. Written before γ, σ and the floor were tuned, and before the seed of the evaluation was drawn."""

from __future__ import annotations

from typing import Final

TARGETS: Final = (2, 3, 6)
"""Targets of a group. One is the best; the others are all as far behind it as the gap says, which is the hardest case."""
GAPS: Final = (0.05, 0.1, 0.3)
"""Share of successes of the best target, less that of each other one. Latencies are equal."""
SHIFTS: Final = (0, 1, 5)
"""How often another target becomes the best, after equal numbers of calls."""
CALLS: Final = (500, 2_000, 20_000)
"""Calls of one run."""
SEEDS: Final = 100
"""Runs of each scenario."""
BEST: Final = (0.7, 0.95)
"""Share of successes of the best target, uniform."""
LATENCY: Final = 0.3
"""Median latency of every target in seconds."""
LATENCY_SPREAD: Final = 0.5
"""Standard deviation of its logarithm."""
LATENCY_LIMIT: Final = 2.0
"""Latency in seconds that costs the whole weight of latency."""
LATENCY_WEIGHT: Final = 0.2
"""The default of the configuration."""
SLOWER: Final = 2.0
"""In the scenarios of latency all targets succeed equally often, and the others take this many times as long."""
SLOWER_CALLS: Final = 20_000
SLOWER_SHIFTS: Final = (0, 1)
IN_FLIGHT: Final = 4
"""Calls under way: what came of a call is known when so many more have begun."""

BAR_RATIO: Final = 1 / 3
BAR_CALLS: Final = 20_000
BAR_GAP: Final = 0.1
"""The bar: at most this part of the regret of P2C + peak-EWMA, at so many calls without shifts, for gaps of at least this."""
BAR_EARLY: Final = 500
"""And at so many calls not significantly worse than round robin."""
