"""How an incident ended, in the language of the page. Pure.

It is stored as an English sentence of `incidents.tracker`, so its form says what to translate. Any other text stays as
it came.
"""

from __future__ import annotations

import re
from typing import Final

from tentaculo.model.incident import REMOVED, SWITCHED_OFF
from tentaculo.model.text import printable
from tentaculo.web import reasons
from tentaculo.web.languages import Language

_FORMS: Final = tuple(
    (re.compile(form + r"\.?"), key)
    for form, key in (
        (r"It is healthy again(: (?P<what>.*?))?", "ending.healthy"),
        (
            r"Healthy when the gateway started; last seen failing at (?P<time>\S+ \S+ UTC), not monitored in between",
            "ending.at_start",
        ),
        (r"Its probes pass, and no request has reached it since(: (?P<what>.*?))?", "ending.probes_pass"),
        (rf"{SWITCHED_OFF}(: (?P<what>.*?))?", "ending.switched_off"),
        (REMOVED, "ending.removed"),
        (r"It had begun before the gateway was restarted: incident (?P<id>\d+)", "ending.begun_before"),
        (r"Explained by the failure of (?P<root>\S+): incident (?P<id>\d+)", "ending.explained"),
    )
)


def said(text: str, t: Language, most: int, *, is_private: bool = True) -> str:
    """The ending `text` as a sentence; empty where there is none. What a service said is private."""
    line = printable(text, most)
    for form, key in _FORMS:
        if found := form.fullmatch(line):
            values = {name: value for name, value in found.groupdict().items() if value is not None}
            what = values.pop("what", "")
            words = t(key, **values)
            if what and is_private:
                return t("ending.because", ending=words, what=reasons.said(what, None, t, most))
            return f"{words}."
    shown = line if is_private else line.partition(": ")[0]
    return reasons.foreign(shown if not shown or shown.endswith((".", "…")) else f"{shown}.", most + 1)
