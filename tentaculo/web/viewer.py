"""For whom a page is rendered."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from tentaculo.server.caller import CALLER
from tentaculo.web.languages import Language, language, language_of


@dataclass(frozen=True, slots=True)
class Viewer:
    """What a page depends on beside its address. Equal viewers are shown the same page, which is rendered once."""

    is_signed_in: bool = False
    """Whether addresses, what services said, notes and names of callers are shown."""
    has_session: bool = False
    """Whether it is a browser that has signed in: it may sign out, and act."""
    language: str = "en"
    """Of the page's text: a code of `languages.NAMES`."""

    @property
    def texts(self) -> Language:
        """The texts of the page, numbers and times in this language."""
        return language(self.language)


def viewer_of(request: web.Request, *, is_public: bool) -> Viewer:
    """The viewer who sent `request`. Where the pages are not public only callers with a token or a session reach them.

    `?as=public` asks for what everybody may see, also for a viewer who has signed in.
    """
    caller = request.get(CALLER)
    is_known = caller is not None and caller.is_authenticated
    as_public = request.query.get("as") == "public"
    return Viewer(
        is_signed_in=(is_known or not is_public) and not as_public,
        has_session=caller is not None and caller.session is not None and not as_public,
        language=language_of(request),
    )
