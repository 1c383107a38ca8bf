"""In which language the reader of a page reads: the one that was chosen on a page, else the one that the browser asks for."""

from __future__ import annotations

import re
from typing import Final

from tentaculo.server.accept import weights

NAMES: Final = {"en": "English", "es": "Español", "pt": "Português"}
"""Each language by its code, in its own words. The first one is shown to those who take none of them."""
PARAMETER: Final = "lang"
"""Of the query string. It shows a page in a language, and the browser remembers that one."""
COOKIE: Final = "tentaculo_language"
_CHOSEN: Final = re.compile(rf"(?:^|;)[ \t]*{COOKIE}=({'|'.join(NAMES)})[ \t]*(?:;|$)")


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
    wanted: dict[str, float] = {}
    for tag, weight in weights(accepted).items():
        code = tag.partition("-")[0]
        # Of several regions of one language the most wanted counts.
        wanted[code] = max(weight, wanted.get(code, 0.0))
    others = wanted.pop("*", 0.0)
    # Of equals the one that is named first, then the one that `NAMES` has first.
    order = [code for code in dict.fromkeys((*wanted, *NAMES)) if code in NAMES]
    best = max(order, key=lambda code: wanted.get(code, others))
    return best if wanted.get(best, others) else next(iter(NAMES))
