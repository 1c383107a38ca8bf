"""How good the model rotation is: simulated groups of targets whose quality shifts, and a log that is replayed.

1. `parameters.py` says what is simulated. It was committed before γ, σ and the floor were tuned on the design seeds.
2. `seeds.json` has the seed of the evaluation. It was drawn after the tuning was committed.
3. `python -m bench.model_rotation` simulates, counts, and writes `docs/model-rotation.md`.
"""
