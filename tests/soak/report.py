"""The result of a soak: its samples, whether memory stayed flat, and the two files that show both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

MIB = 2**20
FEWEST_SAMPLES = 30
"""In the second half. A line through fewer follows single garbage collections, and says nothing about a leak."""
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
    """One soak. Sizes are in bytes, times in seconds."""

    requests: int
    samples: Sequence[Sample]
    outcomes: Mapping[str, int]
    """Number of exchanges with the expected result, by kind."""
    faults: Sequence[str]
    """One sentence for each unexpected result."""
    allowance: int
    """Bytes that the fitted line may rise over the second half."""
    machine: str
    at_end: str
    """Descriptors and tasks that remain after the last exchange, in words."""
    notes: list[str] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Duration of the soak."""
        return self.samples[-1].seconds

    def rss_at(self, share: float) -> int:
        """Resident memory when `share` (0 to 1) of the exchanges had ended."""
        return next(sample.rss for sample in self.samples if sample.done >= share * self.samples[-1].done)

    @property
    def second_half(self) -> Sequence[Sample]:
        """The samples from half of the exchanges on."""
        return [sample for sample in self.samples if sample.done >= self.samples[-1].done / 2]

    @property
    def slope(self) -> float:
        """Bytes per exchange: least squares over the second half."""
        return slope([(sample.done, sample.rss) for sample in self.second_half])

    @property
    def rise(self) -> float:
        """Bytes by which the fitted line rises over the second half."""
        return self.slope * self.samples[-1].done / 2

    @property
    def is_judged(self) -> bool:
        """Whether there are enough samples to judge the rise."""
        return len(self.second_half) >= FEWEST_SAMPLES

    @property
    def has_grown(self) -> bool:
        """Whether memory rose by more than the allowance. False if there are too few samples to judge it."""
        return self.is_judged and self.rise > self.allowance

    @property
    def verdict(self) -> str:
        """The rise of the second half and what it means, in words."""
        if not self.is_judged:
            return f"not judged: {len(self.second_half)} samples, at least {FEWEST_SAMPLES} are needed"
        result = "**not flat**" if self.has_grown else "**flat**"
        rise = f"{self.slope:+.2f} bytes per exchange, {self.rise / MIB:+.2f} MiB in all"
        return f"{rise}: {result} (at most {self.allowance / MIB:g} MiB)"


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
    lines = [
        "# Soak",
        "",
        f"`make soak` sends {soak.requests:,} mixed exchanges through a gateway process and samples that process every",
        "second. It wrote this page. Its exit code is 1 when memory is not flat or a result was unexpected.",
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
        f"| second half, least squares | {soak.verdict} |",
        f"| in flight at once | {held} at most |",
        f"| left at the end | {soak.at_end} |",
        f"| unexpected | {len(soak.faults)} |",
        "",
        *(f"- {fault}" for fault in soak.faults[:50]),
        *([""] if soak.faults else []),
        *(f"{note}\n" for note in soak.notes),
        "| exchange | times, each with the expected result |",
        "|---|---|",
        *(f"| {name.replace('_', ' ')} | {count:,} |" for name, count in sorted(soak.outcomes.items())),
    ]
    return "\n".join(lines) + "\n"


def plot(soak: Soak) -> str:
    """Resident memory over the exchanges, as SVG. The fitted line of the second half is drawn if it is judged."""
    step = max(1, len(soak.samples) // _MOST_POINTS)
    samples = [*soak.samples[::step], soak.samples[-1]]
    last = soak.samples[-1].done or 1
    top = max(sample.rss for sample in soak.samples) / MIB * 1.2
    across, down = _WIDTH - _LEFT - 16, _HEIGHT - _TOP - _BOTTOM

    def place(done: float, rss: float) -> str:
        return f"{_LEFT + across * done / last:.1f},{_TOP + down * (1 - rss / MIB / top):.1f}"

    def text(x: float, y: float, words: str, anchor: str = "middle") -> str:
        return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}">{words}</text>'

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
    ]
    if soak.is_judged:
        half = soak.second_half
        middle = sum(sample.rss for sample in half) / len(half)
        centre = sum(sample.done for sample in half) / len(half)
        start, end = (place(done, middle + soak.slope * (done - centre)) for done in (last / 2, last))
        words = f"dashed: least squares, {soak.rise / MIB:+.2f} MiB in the second half"
        parts += [
            f'<path d="M{start} L{end}" stroke="#c2410c" stroke-width="1.5" stroke-dasharray="6 4"/>',
            text(_WIDTH - 16, _HEIGHT - 6, words, "end"),
        ]
    parts.append("</svg>")
    return "\n".join(parts) + "\n"
