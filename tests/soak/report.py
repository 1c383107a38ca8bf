"""What a soak found: the samples, whether memory is flat, and the two files that show it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

MIB = 2**20
_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 720, 300, 56, 40, 44
_MOST_POINTS = 240


class Sample(NamedTuple):
    """The gateway at one moment."""

    seconds: float
    """Since the beginning."""
    done: int
    """Exchanges that had ended."""
    rss: int
    """Resident memory in bytes."""
    descriptors: int
    in_flight: int


@dataclass
class Soak:
    """One soak. Bytes and seconds throughout."""

    requests: int
    samples: Sequence[Sample]
    outcomes: Mapping[str, int]
    """Exchanges that went as they should, by kind."""
    faults: Sequence[str]
    """Everything that went otherwise, in words."""
    allowance: int
    """How much the fitted line may rise over the second half."""
    machine: str
    at_end: str
    """What is left when all is over, in words."""
    notes: list[str] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.samples[-1].seconds

    def rss_at(self, share: float) -> int:
        """Resident memory when that share of the exchanges had ended."""
        return next(sample.rss for sample in self.samples if sample.done >= share * self.samples[-1].done)

    @property
    def slope(self) -> float:
        """Bytes per exchange: least squares over the second half."""
        half = [sample for sample in self.samples if sample.done >= self.samples[-1].done / 2]
        return slope([(sample.done, sample.rss) for sample in half])

    @property
    def rise(self) -> float:
        """Bytes by which the fitted line rises over the second half."""
        return self.slope * self.samples[-1].done / 2

    @property
    def is_flat(self) -> bool:
        """Whether that is within the allowance."""
        return self.rise <= self.allowance


def slope(points: Sequence[tuple[float, float]]) -> float:
    """The slope of the line that fits best (least squares); 0 for fewer than two different places."""
    if not points:
        return 0.0
    middle_x = sum(x for x, _ in points) / len(points)
    middle_y = sum(y for _, y in points) / len(points)
    spread = sum((x - middle_x) ** 2 for x, _ in points)
    return sum((x - middle_x) * (y - middle_y) for x, y in points) / spread if spread else 0.0


def write(soak: Soak, folder: Path) -> None:
    """Write `soak.svg` and `soak.md` into `folder`."""
    (folder / "soak.svg").write_text(plot(soak))
    (folder / "soak.md").write_text(page(soak))


def page(soak: Soak) -> str:
    """The figures, in Markdown."""
    rates = f"{soak.samples[-1].done / soak.seconds:,.0f} a second" if soak.seconds else "at once"
    held = max(sample.in_flight for sample in soak.samples)
    verdict = "**flat**" if soak.is_flat else "**not flat**"
    lines = [
        "# Soak",
        "",
        f"`make soak` sends {soak.requests:,} mixed exchanges through a gateway process and samples it every",
        "second. It wrote this page. The exit code is 1 if memory is not flat or an exchange had an unexpected result.",
        "",
        "![Resident memory over the exchanges](soak.svg)",
        "",
        "| | |",
        "|---|---|",
        f"| exchanges | {soak.samples[-1].done:,} in {soak.seconds:,.0f} s, {rates} |",
        f"| machine | {soak.machine} |",
        *(
            f"| resident memory at {share:.0%} | {soak.rss_at(share) / MIB:.1f} MiB |"
            for share in (0.1, 0.25, 0.5, 0.75, 1)
        ),
        (
            f"| second half, least squares | {soak.slope:+.2f} bytes per exchange, {soak.rise / MIB:+.2f} MiB in all: "
            f"{verdict} (at most {soak.allowance / MIB:g} MiB) |"
        ),
        f"| in flight at the same time | {held} at most |",
        f"| open at the end | {soak.at_end} |",
        f"| unexpected | {len(soak.faults)} |",
        "",
        *(f"- {fault}" for fault in soak.faults[:50]),
        *([""] if soak.faults else []),
        *(f"{note}\n" for note in soak.notes),
        "| exchange | expected results |",
        "|---|---|",
        *(f"| {name.replace('_', ' ')} | {count:,} |" for name, count in sorted(soak.outcomes.items())),
    ]
    return "\n".join(lines) + "\n"


def plot(soak: Soak) -> str:
    """Resident memory over the exchanges, as SVG, with the fitted line of the second half."""
    step = max(1, len(soak.samples) // _MOST_POINTS)
    samples = [*soak.samples[::step], soak.samples[-1]]
    last = soak.samples[-1].done or 1
    top = max(sample.rss for sample in soak.samples) / MIB * 1.2
    across, down = _WIDTH - _LEFT - 16, _HEIGHT - _TOP - _BOTTOM

    def place(done: float, rss: float) -> str:
        return f"{_LEFT + across * done / last:.1f},{_TOP + down * (1 - rss / MIB / top):.1f}"

    def text(x: float, y: float, words: str, anchor: str = "middle") -> str:
        return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}">{words}</text>'

    half = [sample for sample in soak.samples if sample.done >= last / 2]
    middle = sum(sample.rss for sample in half) / len(half)
    centre = sum(sample.done for sample in half) / len(half)
    fitted = [place(done, middle + soak.slope * (done - centre)) for done in (last / 2, last)]
    marks = [top * share / 4 for share in range(5)]
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif"'
            ' font-size="12" fill="#444">'
        ),
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
        text(_LEFT, 22, f"Resident memory of the gateway over {last:,} exchanges (MiB)", "start"),
        *(f'<path d="M{place(0, mark * MIB)} H{_WIDTH - 16}" stroke="#ddd"/>' for mark in marks),
        *(text(_LEFT - 8, _TOP + down * (1 - mark / top) + 4, f"{mark:.0f}", "end") for mark in marks),
        *(text(_LEFT + across * n / 4, _HEIGHT - 22, f"{last * n // 4:,}") for n in range(5)),
        (
            f'<polyline fill="none" stroke="#0b6e99" stroke-width="1.5" points="'
            f'{" ".join(place(sample.done, sample.rss) for sample in samples)}"/>'
        ),
        f'<path d="M{fitted[0]} L{fitted[1]}" stroke="#c2410c" stroke-width="1.5" stroke-dasharray="6 4"/>',
        text(_WIDTH - 16, _HEIGHT - 6, f"dashed: least squares, {soak.rise / MIB:+.2f} MiB in the second half", "end"),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"
