"""What every form of the status pages goes through: its body, and the form token that shows which page it came from."""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from urllib.parse import parse_qsl, urlencode

from aiohttp import hdrs, web
from multidict import MultiDict

from tentaculo.model.failure import Failure, Problem
from tentaculo.server.caller import PAGES, SIGN_IN, session_of
from tentaculo.server.request_body import check_coding, read_body

MAX_BYTES = 16 * 1024
"""Largest body of a form of lines."""
MAX_TEXT_BYTES = 64 * 1024
"""Largest body of a form with a text of `TEXT_LENGTH` characters, each of which takes up to twelve bytes there."""
_MOST_FIELDS = 128
"""More than a form that lists `wording.MOST_CHOICES` services has."""
_MEDIA_TYPE = "application/x-www-form-urlencoded"
# A page of this gateway and its query. The characters leave no way to another host, and none out of the pages.
_OWN_PAGE = re.compile(r"/status(?:/(?!sign-)[A-Za-z0-9_-]+){0,4}(?:\?[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*)?")
_LONGEST_PAGE = 512


class SignedOutError(Exception):
    """A form of a signed-in viewer was sent without a session: the sign-in of its page has ended."""

    def __init__(self, fields: MultiDict[str]) -> None:
        super().__init__("the sign-in has ended")
        self.fields = fields


async def read_form(request: web.Request, most: int = MAX_BYTES) -> MultiDict[str]:
    """The fields of a form of at most so many bytes. Raises `Problem`: 415, and as `read_body` does."""
    if request.content_type != _MEDIA_TYPE:
        raise Problem(Failure.UNSUPPORTED_MEDIA_TYPE, f"Send {_MEDIA_TYPE}.", headers={"Accept": _MEDIA_TYPE})
    check_coding(request.headers.get(hdrs.CONTENT_ENCODING))
    body = await read_body(request, most)
    try:
        text = body.decode("utf-8")
        return MultiDict(parse_qsl(text, keep_blank_values=True, max_num_fields=_MOST_FIELDS, errors="strict"))
    except ValueError:  # UnicodeDecodeError is one
        raise Problem(Failure.BAD_REQUEST, "The form cannot be read.") from None


async def read_own_form(request: web.Request, most: int = MAX_BYTES) -> MultiDict[str]:
    """The fields of a form of a signed-in viewer.

    Raises `SignedOutError` without a session, `Problem` (403) where the form token is not that of the session, and as
    `read_form` does.
    """
    fields = await read_form(request, most)
    session = session_of(request)
    if session is None:
        raise SignedOutError(fields)
    if not hmac.compare_digest(fields.get("form", "").encode(), session.form_token.encode()):
        raise Problem(Failure.FORM_OF_ANOTHER_SESSION, "Open the page again, and send it from there.")
    return fields


def own_page(address: str) -> str:
    """`address` if it is a page of this gateway, as a path with its query; else the overview."""
    return address if len(address) <= _LONGEST_PAGE and _OWN_PAGE.fullmatch(address) is not None else PAGES


def to_sign_in(fields: Mapping[str, str]) -> web.HTTPSeeOther:
    """The response that leads to the sign-in, and from there to the page that the fields of a form name."""
    return see_other(SIGN_IN, next=own_page(fields.get("next", "")))


def see_other(path: str, **query: str) -> web.HTTPSeeOther:
    """The response that leads a browser on after a form: reloading the page does not send it again."""
    return web.HTTPSeeOther(f"{path}?{urlencode(query, safe='/')}" if query else path)
