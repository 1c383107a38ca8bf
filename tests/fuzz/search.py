"""A search by atheris in one target: `python -m tests.fuzz.search NAME SECONDS FOLDER`.

Seeds and finds go into FOLDER. The exit code is 0 when nothing was found; else the input and the traceback are told.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["tentaculo", "tests.fuzz.relayed", "tests.fuzz.told"]):
    from tests.fuzz.targets import TARGETS
from tests.fuzz.seeds import SEEDS

MAX_LENGTH = 2048
MAX_SECONDS = 5
"""For one input; whatever takes longer would hold up everybody."""


def main(name: str, seconds: str, folder: Path) -> None:
    """Search until the time is up."""
    corpus = folder / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(SEEDS[name]):
        (corpus / f"seed-{number}").write_bytes(seed)
    options = [
        f"-max_total_time={seconds}",
        f"-max_len={MAX_LENGTH}",
        f"-timeout={MAX_SECONDS}",
        f"-artifact_prefix={folder}/",
        "-print_final_stats=1",
        str(corpus),
    ]
    atheris.Setup([sys.argv[0], *options], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
