"""What was measured, as values and as JSON. One file for each case, so that a case can be measured again alone."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.catalogue import BY_NAME, CASES

BEFORE = ("measured", "load average", "slow")
"""What `machine` holds of the moment before a case; the rest is of the machine."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One proxy in one round."""

    peer: str
    number: int
    """The round, from 1."""
    values: dict[str, float] = field(default_factory=dict)
    error: str = ""
    """Why there are no values."""


@dataclass(slots=True)
class CaseResult:
    """One case over all rounds."""

    case: str
    machine: dict[str, str]
    seconds: float
    rounds: int
    titles: dict[str, str]
    """Peer to what tables call it, in their order."""
    notes: dict[str, str] = field(default_factory=dict)
    """Peer to its version and how it is set up."""
    commands: dict[str, list[str]] = field(default_factory=dict)
    """What was run: peers and load."""
    samples: list[Sample] = field(default_factory=list)

    def values(self, peer: str, metric: str) -> dict[int, float]:
        """Round to value."""
        return {s.number: s.values[metric] for s in self.samples if s.peer == peer and metric in s.values}

    def errors(self, peer: str) -> list[str]:
        """What went wrong, each once."""
        return list(dict.fromkeys(s.error for s in self.samples if s.peer == peer and s.error))

    def save(self, folder: Path) -> None:
        """Write it to `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(asdict(self), indent=1, ensure_ascii=False)
        (folder / f"{self.case}.json").write_text(text + "\n", encoding="utf-8")


def load(folder: Path) -> list[CaseResult]:
    """Every case that was saved in `folder`, in the catalogue's order."""
    found = {path.stem: path for path in folder.glob("*.json") if path.stem in BY_NAME}
    return [_result(json.loads(found[case.name].read_text("utf-8"))) for case in CASES if case.name in found]


def _result(data: dict[str, Any]) -> CaseResult:
    return CaseResult(**{**data, "samples": [Sample(**sample) for sample in data["samples"]]})
