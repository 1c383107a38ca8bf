"""For whom a page is rendered."""

from __future__ import annotations

from typing import Any, cast

import pytest
from aiohttp.test_utils import make_mocked_request

from tentaculo.net.inbound_request import InboundRequest
from tentaculo.security.sessions import Session
from tentaculo.security.tokens import Tokens, hash_token
from tentaculo.server.caller import SENDER, Sender
from tentaculo.web.viewer import Viewer, viewer_of

SESSION = Session(b"id", "digest")
TOKENS = Tokens([hash_token("it")])


@pytest.mark.parametrize(
    ("is_public", "is_authenticated", "session", "viewer"),
    [
        (True, False, None, Viewer()),
        (True, True, None, Viewer(is_signed_in=True)),
        (True, True, SESSION, Viewer(is_signed_in=True, has_session=True, may_act=True)),
        # Only callers with a token reach a page that is not public, and everybody where no tokens are checked.
        (False, False, None, Viewer(is_signed_in=True)),
    ],
)
def test_who_sees_what(*, is_public: bool, is_authenticated: bool, session: Session | None, viewer: Viewer) -> None:
    request: Any = make_mocked_request("GET", "/status")
    inbound = cast(InboundRequest, None)
    request[SENDER] = Sender(inbound, lambda _: False, TOKENS.check(b"it" if is_authenticated else None, None), session)
    assert viewer_of(request, is_public=is_public, can_sign_in=True) == viewer
    asked: Any = make_mocked_request("GET", "/status?as=public")
    asked[SENDER] = request[SENDER]
    assert viewer_of(asked, is_public=is_public, can_sign_in=True) == Viewer(), "what everybody may see"
