"""docs/benchmark.svg: throughput of each proxy as a share of nginx's; readable on light and on dark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from bench.catalogue import BY_NAME
from bench.results import CaseResult
from bench.stats import Spread, ratios
from bench.table import OURS, REFERENCE

SHOWN = {"get": "rps", "post": "rps", "websocket": "messages"}
"""The cases of the plot, and the metric of each."""
_LEFT_OUT = {"direct", "ours-no-log", "nginx-log"}
_WIDTH, _LABEL, _VALUE, _ROW, _BAR = 760, 170, 60, 24, 14
_STYLE = """\
text { font: 13px system-ui, "Segoe UI", "DejaVu Sans", sans-serif; fill: #1f2328 }
.title { font-weight: 600; font-size: 14px }
.quiet { fill: #59636e; font-size: 12px }
.bar { fill: #b1bac4 }
.ours { fill: #0f7b6c }
.name-ours { font-weight: 600 }
.range { stroke: #1f2328; stroke-width: 1.2 }
.axis { stroke: #d1d9e0 }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc }
  .quiet { fill: #9198a1 }
  .bar { fill: #4c5561 }
  .ours { fill: #2bb5a0 }
  .range { stroke: #f0f6fc }
  .axis { stroke: #3d444d }
}
"""


@dataclass(frozen=True, slots=True)
class Bar:
    """One proxy in one case."""

    peer: str
    title: str
    share: Spread
    """Of the reference's, by round."""


def bars(result: CaseResult) -> list[Bar]:
    """The fastest first; nothing without the reference."""
    metric = SHOWN[result.case]
    reference = result.values(REFERENCE, metric)
    found = [
        Bar(peer, title, share)
        for peer, title in result.titles.items()
        if peer not in _LEFT_OUT and (share := ratios(result.values(peer, metric), reference))
    ]
    return sorted(found, key=lambda bar: -bar.share.median)


def svg(results: Sequence[CaseResult]) -> str:
    """The whole picture; one panel below the other."""
    panels = [(BY_NAME[r.case].title, found) for r in results if r.case in SHOWN and (found := bars(r))]
    most = max((bar.share.high for _, found in panels for bar in found), default=1.0)
    scale = (_WIDTH - _LABEL - _VALUE) / max(1.0, most)
    parts: list[str] = []
    top = 18
    for title, found in panels:
        bottom = top + 14 + _ROW * len(found)
        parts.append(f'<text class="title" x="0" y="{top}">{escape(title)}</text>')
        parts.append(_line("axis", _LABEL + scale, top + 8, _LABEL + scale, bottom))
        parts.append(_line("axis", _LABEL, top + 8, _LABEL, bottom))
        for row, bar in enumerate(found):
            parts += _bar(bar, top + 14 + _ROW * row, scale)
        top = bottom + 34
    note = "Throughput as a share of nginx's, one core each; median over the rounds, the line from least to most."
    parts.append(f'<text class="quiet" x="0" y="{top - 8}">{escape(note)}</text>')
    heading = "Throughput of Tentáculo Link and other proxies as a share of nginx's"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {top}" role="img" aria-label="{escape(heading)}">',
            f"<title>{escape(heading)}</title>",
            f"<style>\n{_STYLE}</style>",
            *parts,
            "</svg>",
            "",
        ]
    )


def _bar(bar: Bar, top: float, scale: float) -> list[str]:
    is_ours = bar.peer == OURS
    middle = top + _BAR / 2
    name = ' class="name-ours"' if is_ours else ""
    end = _LABEL + scale * max(bar.share.median, bar.share.high) + 8
    return [
        f'<text{name} x="{_LABEL - 10}" y="{middle + 4.5:g}" text-anchor="end">{escape(bar.title)}</text>',
        (
            f'<rect class="{"ours" if is_ours else "bar"}" x="{_LABEL}" y="{top:g}" rx="2" height="{_BAR}"'
            f' width="{max(1.0, scale * bar.share.median):.1f}"/>'
        ),
        _line("range", _LABEL + scale * bar.share.low, middle, _LABEL + scale * bar.share.high, middle),
        f'<text class="quiet" x="{end:.1f}" y="{middle + 4.5:g}">{bar.share.median:.2f}</text>',
    ]


def _line(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'
