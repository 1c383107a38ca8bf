"""The addresses in a Content-Security-Policy: the sources that a page may load, and where violations are reported. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable

# A header field may hold several policies with commas between them (CSP Level 3 section 2.2).
_DIRECTIVE = re.compile(r"[^;,]+")
_WORD = re.compile(r"[^ \t\f]+")
_SOURCE_LISTS = ("-src", "-src-elem", "-src-attr")
_OTHER_SOURCE_LISTS = frozenset(("base-uri", "form-action", "frame-ancestors", "navigate-to"))
# Whatever may be a host or a path: `data:` and `'self'` are the same for all clients.
_MAY_BE_ADDRESS = re.compile(rb"[./:][^ \t\f;,]|report-uri", re.IGNORECASE)


def map_policy(value: str, map_source: Callable[[str], str], map_reference: Callable[[str], str]) -> str:
    """`value` with each source and each address of a report replaced; all other words stay.

    `map_source` gets the words of a source list (CSP Level 3 section 2.3.1), keywords and hashes too; `map_reference` the
    URI references of `report-uri` (section 6.5.1).
    """
    return _DIRECTIVE.sub(lambda match: _map_directive(match[0], map_source, map_reference), value)


def _map_directive(text: str, map_source: Callable[[str], str], map_reference: Callable[[str], str]) -> str:
    match = _WORD.search(text)
    if match is None:
        return text
    name = match[0].lower()
    if name == "report-uri":
        mapping = map_reference
    elif name.endswith(_SOURCE_LISTS) or name in _OTHER_SOURCE_LISTS:
        mapping = map_source
    else:
        return text
    return text[: match.end()] + _WORD.sub(lambda word: mapping(word[0]), text[match.end() :])


def has_addresses(value: bytes) -> bool:
    """Whether a policy may name a host or a path, so that it may differ from client to client."""
    return _MAY_BE_ADDRESS.search(value) is not None
