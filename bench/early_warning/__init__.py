"""How good the early warnings are: simulated services with noise that was recorded from this gateway.

1. `record.py` runs a real gateway with injected faults and writes the latencies to `traces/`.
2. `parameters.py` says what is simulated. It and the thresholds of the detector were committed before `seeds.json`.
3. `python -m bench.early_warning` simulates, counts, and writes `docs/early-warning.md`.
"""
