"""What the page after a form says once: `Alerts are muted until 18:30.`

A cookie brings it there, since another worker may serve the page. It holds a word of a fixed list and a time, and a
signature that needs the form token of the session: so no link and no other page can have it say anything.
"""

from __future__ import annotations

import hmac
import re
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final

from aiohttp import hdrs, web

from tentaculo.server.caller import PAGES, SENDER

DONE: Final = {
    "acknowledged": "actions.done_acknowledged",
    "noted": "actions.done_noted",
    "muted": "actions.muted",
    "muted_until": "actions.muted_until",
    "unmuted": "actions.done_unmuted",
    "planned": "actions.done_planned",
    "begun": "actions.done_begun",
    "changed": "actions.done_changed",
    "ended": "actions.done_ended",
    "cancelled": "actions.done_cancelled",
}
"""By word, the key of its text. Those of `muted_until`, `planned` and `begun` have a time."""
_COOKIE: Final = "tentaculo_done"
_FORM: Final = re.compile(r"(?:^|; *)tentaculo_done=(([a-z_]{1,20})\.([0-9]{1,11}))\.([0-9a-f]{32})(?:;|$)")
_SECONDS: Final = 60
"""For which the browser keeps it."""


def confirm_later(
    request: web.Request, form_token: str, response: web.Response, done: str, at: datetime | None
) -> None:
    """Have the next page that the sender of `request` opens confirm `done`, a word of `DONE`, with its time."""
    said = f"{done}.{0 if at is None else int(at.timestamp())}"
    is_secure = request[SENDER].inbound.public_scheme == "https"
    value = f"{said}.{_signature(form_token, said)}"
    response.set_cookie(
        _COOKIE, value, path=PAGES, max_age=_SECONDS, httponly=True, samesite="Strict", secure=is_secure
    )


def confirmed(request: web.Request, form_token: str) -> tuple[str, datetime] | None:
    """The word of `DONE` that is to be said now, and its time; None where there is nothing to confirm."""
    found = _FORM.search("; ".join(request.headers.getall(hdrs.COOKIE, ())))
    if found is None or found[2] not in DONE or not hmac.compare_digest(found[4], _signature(form_token, found[1])):
        return None
    return found[2], datetime.fromtimestamp(int(found[3]), UTC)


def forget(response: web.StreamResponse) -> None:
    """Say it no second time."""
    response.del_cookie(_COOKIE, path=PAGES)


def _signature(form_token: str, said: str) -> str:
    return hmac.new(form_token.encode(), said.encode(), sha256).hexdigest()[:32]
