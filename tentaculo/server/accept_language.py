"""In which language the reader of a page reads: the one that was chosen on a page, else the one that the browser asks for."""

from __future__ import annotations

import re
from typing import Final

NAMES: Final = {"en": "English", "es": "Español", "pt": "Português"}
"""Each language by its code, in its own words. The first one is shown to those who take none of them."""
PARAMETER: Final = "lang"
"""Of the query string. It shows a page in a language, and the browser remembers that one."""
COOKIE: Final = "tentaculo_language"
_CHOSEN: Final = re.compile(rf"(?:^|;)[ \t]*{COOKIE}=({'|'.join(NAMES)})[ \t]*(?:;|$)")
_MOST_RANGES: Final = 20
"""Languages of an Accept-Language that are read."""


def asked_language(parameter: str, cookies: str, accepted: str) -> str:
    """The code of the language in which to respond, by the parameter of the query, by Cookie and by Accept-Language."""
    if parameter in NAMES:
        return parameter
    # Not `request.cookies`: to read 30 KB of made-up cookies takes it 45 ms of the event loop.
    if found := _CHOSEN.search(cookies):
        return found[1]
    return negotiate(accepted)


def negotiate(accepted: str) -> str:
    """The code of the language that an Accept-Language asks for (RFC 9110, section 12.5.4); of a region, its language."""
    weights: dict[str, float] = {}
    for part in accepted.split(",", _MOST_RANGES)[:_MOST_RANGES]:
        tag, _, parameter = part.partition(";")
        code = tag.strip().lower().partition("-")[0]
        weight = _weight(parameter)
        # Of several regions of one language the most wanted counts.
        if code and weight is not None:
            weights[code] = max(weight, weights.get(code, 0.0))
    others = weights.pop("*", 0.0)
    # A stable sort: of equals the one that is named first, then the one that `NAMES` has first.
    order = sorted({code: weights.get(code, others) for code in (*weights, *NAMES) if code in NAMES}.items(), key=_last)
    return order[0][0] if order[0][1] > 0 else next(iter(NAMES))


def _last(item: tuple[str, float]) -> float:
    return -item[1]


def _weight(parameter: str) -> float | None:
    """The weight of a range, 0 to 1; None where it is none."""
    name, _, value = parameter.replace(" ", "").partition("=")
    if not name:
        return 1.0
    try:
        weight = float(value) if name.lower() == "q" and len(value) <= 5 else -1.0
    except ValueError:
        return None
    return weight if 0 <= weight <= 1 else None
