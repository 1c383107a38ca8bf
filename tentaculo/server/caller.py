"""Who sends a request to the gateway's own paths, and which of these the cookie of a sign-in opens.

A browser sends the cookie by itself, whatever page made it send a request. So it counts only where no page of another
origin is behind the request, and what it opens is a list: any other path needs a token or a ticket.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol
from urllib.parse import quote

import msgspec
from aiohttp import web

from tentaculo.model.native_paths import READS
from tentaculo.model.scopes import Need
from tentaculo.net.inbound_request import InboundRequest
from tentaculo.net.session_cookie import HOST_ONLY, PLAIN
from tentaculo.security.cors import is_allowed
from tentaculo.security.sessions import LIFETIME, Session
from tentaculo.security.tokens import Caller
from tentaculo.server.client_address import client_address
from tentaculo.server.gateway_responses import prefers_html

PAGES = "/status"
"""The overview. All other pages are below it."""
SIGN_IN, SIGN_OUT, ACTIONS = "/status/sign-in", "/status/sign-out", "/status/actions"
OPENED = frozenset(
    (*("/events", "/events/stream", "/ws"), *("/vx11/incidents", "/vx11/maintenance", "/debug/events/correlations"))
)
"""The native paths beside the pages that the cookie opens for reading: what the pages link to or use."""
OPENED_BELOW = ("/vx11/incidents/", "/vx11/history/")
"""The same, with all paths below them."""
_MOST_NEXT = 512


class Sender(msgspec.Struct, frozen=True):
    """Who sends a request to a native path, and from where."""

    inbound: InboundRequest
    is_trusted: Callable[[str], bool]
    caller: Caller
    """Who that is, by token, ticket or session."""
    session: Session | None
    """The session of its cookie, where no token counted more."""

    @property
    def is_authenticated(self) -> bool:
        """Whether it has an accepted token, ticket or session, with the scope that the route needs."""
        return self.caller.is_authenticated

    @property
    def address(self) -> str:
        """The client's address; behind trusted proxies the last one before them."""
        return client_address(self.inbound, self.is_trusted)

    def set_cookie(self, session_id: str) -> str:
        """The value of the `Set-Cookie` that signs in; with an empty id that of the one that signs out."""
        is_secure = self.inbound.public_scheme == "https"
        name = (HOST_ONLY if is_secure else PLAIN).decode()
        age = LIFETIME if session_id else 0
        # Lax, so that a link from a chat opens a page signed in. Nothing is changed by a GET.
        return f"{name}={session_id}; Path=/; Max-Age={age}; HttpOnly; SameSite=Lax{'; Secure' if is_secure else ''}"


SENDER = web.RequestKey("sender", Sender)
"""Set before a native handler runs."""


def session_of(request: web.Request) -> Session | None:
    """The session that a request was sent with."""
    sender = request.get(SENDER)
    return sender.session if sender is not None else None


def name_of(request: web.Request) -> str | None:
    """The name of the caller who sent a request, None for an anonymous one."""
    sender = request.get(SENDER)
    return sender.caller.name if sender is not None else None


class Audit(Protocol):
    """Records who has changed something."""

    def __call__(self, request: web.Request, action: str, **what: object) -> None:
        """Record that the sender of `request` has done `action`, with what it was done to."""


def no_audit(request: web.Request, action: str, **what: object) -> None:
    """Record nothing."""


def audit_to(record: Callable[..., None]) -> Audit:
    """Records by an event of the gateway's own; `record` is as `OwnEvents.record`."""

    def audit(request: web.Request, action: str, **what: object) -> None:
        sender = request.get(SENDER)
        caller = sender.caller if sender is not None else None
        name, how = (None, None) if caller is None else (caller.name, caller.check.value)
        record("caller.acted", caller=name, how=how, action=action, **what)

    return audit


def may(request: web.Request, need: Need) -> bool:
    """Whether the caller who sent a request has a scope. An anonymous one has passed a route that is open to all."""
    caller = request[SENDER].caller
    return not caller.is_authenticated or caller.may(need)


def note_action(request: web.Request) -> None:
    """Note that who sent a request has changed something: no page from before is shown to this session."""
    if (session := session_of(request)) is not None:
        session.acted_at = time.monotonic()


def when_signed_out(request: web.Request, callback: Callable[[], None], *needs: Need) -> Callable[[], None]:
    """Call `callback` when the session of a request that lasts has ended, or its token, or one of its scopes.

    `needs` are those that the request needs as long as it lasts. The result takes that back.
    """
    sender = request.get(SENDER)
    if sender is None or not sender.is_authenticated:
        return lambda: None
    streams, session = sender.caller.use.streams, sender.session
    streams[callback] = needs
    forget = session.when_ended(callback) if session is not None else lambda: None

    def take_back() -> None:
        streams.pop(callback, None)
        forget()

    return take_back


def is_page(path: str) -> bool:
    """Whether a path is one of the status pages."""
    return path == PAGES or path.startswith(f"{PAGES}/")


def session_id_of(inbound: InboundRequest) -> bytes | None:
    """The session id in the cookie of a request to a native path; None where the cookie does not count."""
    cookies = inbound.fields.session_cookies
    if cookies is None or not _is_opened(inbound) or not _may_use_cookie(inbound):
        return None
    return cookies.get(HOST_ONLY if inbound.public_scheme == "https" else PLAIN) or None


def is_from_own_page(inbound: InboundRequest) -> bool:
    """Whether a page of the gateway's own origin sends a request. Browsers say so with each POST and each WebSocket."""
    site = inbound.first(b"sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    return inbound.origin is not None and _is_own(inbound, inbound.origin)


def sign_in_address(inbound: InboundRequest) -> str | None:
    """Where a browser that opens a page without having signed in is sent; None for other requests."""
    if inbound.method not in READS or not is_page(inbound.target.path) or not prefers_html(inbound.accept):
        return None
    wanted = inbound.target.path + inbound.target.query
    return SIGN_IN if wanted == PAGES or len(wanted) > _MOST_NEXT else f"{SIGN_IN}?next={quote(wanted, safe='/')}"


def _is_opened(inbound: InboundRequest) -> bool:
    path = inbound.target.path
    if is_page(path):
        return inbound.method in (*READS, "POST")
    return inbound.method in READS and (path in OPENED or path.startswith(OPENED_BELOW))


def _may_use_cookie(inbound: InboundRequest) -> bool:
    if inbound.method not in READS or inbound.fields.upgrade is not None:
        return is_from_own_page(inbound)
    site = inbound.first(b"sec-fetch-site")
    if site in (None, "none", "same-origin"):
        # Without the first field, in a browser without TLS, only a page of another origin says its Origin with a GET.
        return inbound.origin is None or _is_own(inbound, inbound.origin)
    # A person who follows a link to a page sees it; the page with the link sees nothing of it.
    return is_page(inbound.target.path) and inbound.first(b"sec-fetch-mode") == "navigate"


def _is_own(inbound: InboundRequest, origin: str) -> bool:
    # A cookie is never sent to another name than the one that it was set for, so that any name here is the gateway's.
    is_weaker = inbound.public_scheme == "https" and not origin.startswith("https:")
    return not is_weaker and is_allowed(origin, inbound.public_host, (), lambda _: True)
