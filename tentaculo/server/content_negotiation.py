"""What a client takes (RFC 9110 section 12.5): the weights of `Accept` and of fields like it, codings, and languages."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

_MOST_RANGES, _MOST_PARAMETERS = 64, 8
"""Of a field, and of each of its ranges, that are looked at."""
LANGUAGES: Final = {"en": "English", "es": "Español", "pt": "Português"}
"""Each language by its code, in its own words. The first one is shown to those who take none of them."""
LANGUAGE_PARAMETER: Final = "lang"
"""Of the query string. It shows a page in a language, and the browser remembers that one."""
LANGUAGE_COOKIE: Final = "tentaculo_language"
_CHOSEN: Final = re.compile(rf"(?:^|;)[ \t]*{LANGUAGE_COOKIE}=({'|'.join(LANGUAGES)})[ \t]*(?:;|$)")


class AcceptedRange(NamedTuple):
    """One member of such a field."""

    name: str
    """Its media range or coding, in lower case, without parameters."""
    text: str
    """As it was sent, with its parameters."""
    weight: float
    """From 0, which refuses it, to 1."""


def accepted_ranges(value: str) -> list[AcceptedRange]:
    """The members of a field, in their order. A weight that is none counts as 0."""
    found = list[AcceptedRange]()
    for part in value.split(",", _MOST_RANGES)[:_MOST_RANGES]:
        name, *parameters = part.split(";", _MOST_PARAMETERS)
        found.append(AcceptedRange(name.strip().lower(), part.strip(), _weight(parameters) if parameters else 1.0))
    return found


def by_weight(value: str) -> list[AcceptedRange]:
    """Those that are not refused, the most wanted first; of equals the one that is named first."""
    return sorted((one for one in accepted_ranges(value) if one.weight), key=lambda one: -one.weight)


def weights(value: str) -> dict[str, float]:
    """The weight of each name of a field, in their order. Of one that is there several times the greatest counts."""
    found: dict[str, float] = {}
    for name, _, weight in accepted_ranges(value):
        found[name] = max(weight, found.get(name, 0.0))
    return found


def weight_named(value: str, name: str) -> float:
    """The weight of `name` in a field that names it, else 0: a range such as `*/*` does not count."""
    return weights(value).get(name, 0.0) if name in value.lower() else 0.0


def weight_of(found: Mapping[str, float], *names: str) -> float:
    """The weight of a media type among `weights`: by its own name, else by the range of its type, else by `*/*`.

    `names` are all names of the one type, each in lower case.
    """
    named = [found[name] for name in names if name in found]
    if named:
        return max(named)
    return found.get(f"{names[0].partition('/')[0]}/*", found.get("*/*", 0.0))


def takes_gzip(accepted: str) -> bool:
    """Whether the value of an Accept-Encoding names gzip, and rates no coding at all not higher (RFC 9110, section 12.5.3)."""
    found = weights(accepted)
    gzipped = max(found.get("gzip", 0.0), found.get("x-gzip", 0.0))
    return gzipped > 0 and gzipped >= found.get("identity", 0.0)


def asked_language(parameter: str, cookies: str, accepted: str) -> str:
    """The code of the language in which to respond, by the parameter of the query, by Cookie and by Accept-Language."""
    if parameter in LANGUAGES:
        return parameter
    # Not `request.cookies`: to read 30 KB of made-up cookies takes it 45 ms of the event loop.
    if found := _CHOSEN.search(cookies):
        return found[1]
    return negotiate_language(accepted)


def negotiate_language(accepted: str) -> str:
    """The code of the language that an Accept-Language asks for (RFC 9110, section 12.5.4); of a region, its language."""
    wanted: dict[str, float] = {}
    for tag, weight in weights(accepted).items():
        code = tag.partition("-")[0]
        # Of several regions of one language the most wanted counts.
        wanted[code] = max(weight, wanted.get(code, 0.0))
    others = wanted.pop("*", 0.0)
    # Of equals the one that is named first, then the one that `LANGUAGES` has first.
    order = [code for code in dict.fromkeys((*wanted, *LANGUAGES)) if code in LANGUAGES]
    best = max(order, key=lambda code: wanted.get(code, others))
    return best if wanted.get(best, others) else next(iter(LANGUAGES))


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            try:
                weight = float(value)
            except ValueError:
                return 0.0
            return weight if 0.0 <= weight <= 1.0 else 0.0
    return 1.0
