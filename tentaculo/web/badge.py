"""A badge: a label and a message in one line, as SVG or in the form that shields.io reads. Pure."""

from __future__ import annotations

import unicodedata
from html import escape
from typing import Any, Final, NamedTuple

from tentaculo.model.text import printable

MOST_LABEL: Final = 40
MOST_MESSAGE: Final = 60
"""Characters that are shown."""
_HEIGHT: Final = 20
_SIZE: Final = 11
_MARGIN: Final = 6
"""Pixels: the height, the size of the letters, and the space beside each text."""
_LABEL_COLOUR: Final = "#3b4148"
_COLOURS: Final = {"up": "#17784a", "slow": "#8f5300", "down": "#bd2518", "plan": "#3352c8", "off": "#5b616a"}
"""By tone, as on the pages. White letters on each have a contrast of 5 to 1 at least."""
_WIDTHS: Final = (
    *(32, 40, 46, 84, 64, 95, 78, 27, 39, 39, 50, 84, 32, 36, 32, 34),
    *(64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 34, 34, 84, 84, 84, 53),
    *(100, 68, 69, 70, 77, 63, 58, 77, 75, 29, 29, 66, 56, 86, 75, 79),
    *(60, 79, 69, 63, 61, 73, 68, 99, 69, 61, 69, 39, 34, 39, 84, 50),
    *(50, 61, 63, 55, 63, 62, 35, 63, 63, 28, 28, 58, 28, 97, 63, 61),
    *(63, 63, 41, 52, 39, 63, 59, 82, 59, 59, 52, 64, 34, 64, 84),
)
"""Widths of the ASCII characters from the space on in DejaVu Sans, which are those of Verdana, in hundredths of the size."""


class Badge(NamedTuple):
    """What a badge says."""

    label: str
    message: str
    tone: str
    """Names its colour. The message says the same in words."""
    is_error: bool = False
    """Whether there is nothing to show."""

    @property
    def text(self) -> str:
        """The whole text, for those who do not see it."""
        return f"{self.label}: {self.message}"


def made(label: str, message: str, tone: str, *, is_error: bool = False) -> Badge:
    """A badge of texts of any length and content."""
    return Badge(printable(label, MOST_LABEL), printable(message, MOST_MESSAGE), tone, is_error)


def text_width(text: str) -> float:
    """About how many pixels `text` is wide. A viewer's font may differ; the SVG fits the text into this width."""
    return sum(map(_width, text)) * _SIZE / 100


def _width(character: str) -> int:
    place = ord(character) - 32
    if 0 <= place < len(_WIDTHS):
        return _WIDTHS[place]
    if unicodedata.combining(character):
        return 0
    return 100 if unicodedata.east_asian_width(character) in "WF" else 64


def svg(badge: Badge) -> str:
    """The picture. It has no script, no style sheet and no font of its own, and needs nothing else."""
    label, message = text_width(badge.label), text_width(badge.message)
    left = round(label + 2 * _MARGIN)
    whole = left + round(message + 2 * _MARGIN)
    said = escape(badge.text)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{whole}" height="{_HEIGHT}" role="img" aria-label="{said}">'
        f"<title>{said}</title>"
        f'<rect width="{whole}" height="{_HEIGHT}" rx="3" fill="{_COLOURS[badge.tone]}"/>'
        f'<path d="M3 0H{left}V{_HEIGHT}H3a3 3 0 0 1-3-3V3a3 3 0 0 1 3-3Z" fill="{_LABEL_COLOUR}"/>'
        f'<g fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="{_SIZE}">'
        f"{_text(badge.label, _MARGIN, label)}{_text(badge.message, left + _MARGIN, message)}</g></svg>"
    )


def _text(text: str, x: int, width: float) -> str:
    return f'<text x="{x}" y="14" textLength="{width:.1f}" lengthAdjust="spacingAndGlyphs">{escape(text)}</text>'


def shields(badge: Badge) -> dict[str, Any]:
    """The form of https://shields.io/badges/endpoint-badge."""
    found: dict[str, Any] = {
        "schemaVersion": 1,
        "label": badge.label,
        "message": badge.message,
        "color": _COLOURS[badge.tone],
        "labelColor": _LABEL_COLOUR,
    }
    return {**found, "isError": True} if badge.is_error else found
