"""For whom a page is rendered."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from tentaculo.web.languages import Language, language, language_of


@dataclass(frozen=True, slots=True)
class Viewer:
    """What a page depends on beside its address. Equal viewers are shown the same page, which is rendered once."""

    is_signed_in: bool = False
    """Whether addresses, what services said, notes and names of callers are shown."""
    language: str = "en"
    """Of the page's text: a code of `languages.NAMES`."""

    @property
    def texts(self) -> Language:
        """The texts of the page, numbers and times in this language."""
        return language(self.language)


def viewer_of(request: web.Request, *, is_public: bool) -> Viewer:
    """The viewer who sent `request`. Where the pages are not public only callers with a token reach them."""
    return Viewer(is_signed_in=not is_public, language=language_of(request))
