"""The rules for every request, native or proxied: CORS preflights, tokens, tickets, sessions, and the Origin of a page."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from tentaculo.model.failure import Failure, Problem
from tentaculo.model.scopes import Need
from tentaculo.net.inbound_request import InboundRequest
from tentaculo.security.cors import CorsPolicy, is_allowed, is_local
from tentaculo.security.sessions import Session, SessionCheck, Sessions
from tentaculo.security.tickets import TicketCheck, Tickets, is_ticket, tickets_in
from tentaculo.security.tokens import Caller, TokenCheck, Tokens
from tentaculo.server.caller import is_from_own_page, is_page, session_id_of
from tentaculo.server.content_negotiation import weight_named

TICKET_PATHS = frozenset(("/ws", "/events/stream"))
"""The native paths that take a ticket."""
_WEBSOCKET = frozenset((b"websocket",))


class FoundTicket(NamedTuple):
    """What a query says by its parameters `ticket`."""

    to_redeem: str | None
    """The ticket that is to authenticate the caller."""
    to_remove: list[str]
    """The values that no service may see."""


_NOTHING = FoundTicket(None, [])


class AccessControl:
    """Decides about a request after its route was found and before its body is read."""

    def __init__(
        self, tokens: Tokens, cors: CorsPolicy, tickets: Tickets, sessions: Sessions, hosts: Collection[str] = ()
    ) -> None:
        """`hosts` are the names of the gateway, `[server] hosts`."""
        self.tokens = tokens
        """The accepted tokens. A caller that others made is not known by these."""
        self._tickets = tickets
        self._sessions = sessions
        self.cors = cors
        """Which origins are listed."""
        self._hosts = frozenset(hosts)

    def __repr__(self) -> str:
        return f"<AccessControl: {self.tokens!r}, {self.cors!r}>"

    def _is_own(self, name: str) -> bool:
        # A name with a dot that is not configured may be an attacker's that resolves to this address (DNS rebinding).
        return is_local(name) or name in self._hosts

    def preflight(self, inbound: InboundRequest) -> Mapping[str, str] | None:
        """The headers of the response (204) to a listed origin's preflight, None for every other request."""
        if inbound.method != "OPTIONS" or inbound.origin is None:
            return None
        return self.cors.preflight(
            inbound.origin,
            inbound.first(b"access-control-request-method"),
            inbound.first(b"access-control-request-headers"),
        )

    def authenticate(self, inbound: InboundRequest, *, needs_token: bool) -> Caller:
        """Check the request's token. Raises `Problem` (401, 403) if it `needs_token` and none is accepted.

        On an open route a token that is not accepted is no error: it may be for the service.
        """
        fields, tokens = inbound.fields, self.tokens
        caller: Caller | None = fields.caller
        if (
            caller is None
            or caller.acceptance is not tokens.acceptance
            or (caller.ends_at is not None and is_over(caller))
        ):
            caller = fields.caller = tokens.check(fields.token, fields.authorization)
        if needs_token and not caller.is_authenticated:
            if caller.check is TokenCheck.MISSING:
                raise Problem(Failure.AUTH_REQUIRED)
            if caller.check is TokenCheck.EXPIRED:
                raise Problem(Failure.FORBIDDEN, f"The token {caller.name} has expired.")
            if caller.check is TokenCheck.WRONG:
                raise Problem(Failure.FORBIDDEN)
        return caller

    def without_scope(self, caller: Caller, need: Need, *, needs_token: bool) -> Caller:
        """A caller who lacks what a route needs, as that sees it. Raises `Problem` (403) if the route `needs_token`.

        An open route takes such a caller for an anonymous one, who may do as much as those.
        """
        if not needs_token:
            return self.tokens.anonymous
        detail = f"The token {caller.name} does not have the scope {need[0]}."
        if not caller.is_authenticated:
            detail = f"Without authentication nobody has the scope {need[0]}."
        raise Problem(Failure.MISSING_SCOPE, detail, {"scope": need[0]})

    def find_ticket(self, inbound: InboundRequest, *, is_native: bool, needs_token: bool) -> FoundTicket:
        """The ticket in the query of a request, which `redeem_ticket` is to check. Raises `Problem` (401).

        Only a request that a browser makes without headers of the page's choice may have one: the handshake of a
        WebSocket, and a GET for an event stream. A token in a header counts more. A parameter `ticket` of another form is
        the service's, unless the caller has nothing else to be authenticated by.
        """
        found = tickets_in(inbound.target.query)
        ours = [ticket for ticket in found if is_ticket(ticket)]
        if not _may_have_ticket(inbound, is_native=is_native):
            # It stays valid, so that a service which got it could use it.
            return _NOTHING if is_native else FoundTicket(None, ours)
        if self.authenticate(inbound, needs_token=False).check is not TokenCheck.MISSING:
            return FoundTicket(None, ours)
        if not ours and not (found and needs_token):
            return _NOTHING
        if len(found) > 1:
            raise Problem(Failure.AUTH_REQUIRED, "The query has more than one ticket.")
        return FoundTicket(found[0], ours)

    async def redeem_ticket(self, ticket: str) -> Caller:
        """Use a ticket up, and return its caller. Raises `Problem`: 401 if it is not valid, 503 if that cannot be known now."""
        found = await self._tickets.redeem(ticket)
        if found is TicketCheck.UNAVAILABLE:
            detail = "The ticket cannot be checked now. Try again with a new one."
            raise Problem(Failure.STORE_UNAVAILABLE, detail, headers={"Retry-After": "1"})
        if found is TicketCheck.REFUSED:
            raise Problem(Failure.AUTH_REQUIRED, "The ticket is unknown, expired or used.")
        caller = self.tokens.caller(found, TokenCheck.BY_TICKET)
        if caller is None:
            raise Problem(Failure.AUTH_REQUIRED, "The token that the ticket was made with is no longer accepted.")
        return caller

    def session_id(self, inbound: InboundRequest) -> bytes | None:
        """The session id in the cookie of a request to a native path, which `find_session` is to look up.

        A token in a header counts more.
        """
        if self.authenticate(inbound, needs_token=False).check is not TokenCheck.MISSING:
            return None
        return session_id_of(inbound)

    async def find_session(
        self, inbound: InboundRequest, session_id: bytes, *, needs_token: bool
    ) -> tuple[Session, Caller] | None:
        """The session of an id with its caller, None where it has ended and the route is open. Raises `Problem`.

        401 if it has ended and the route `needs_token`, 503 if that cannot be known now.
        """
        found = await self._sessions.find(session_id)
        if isinstance(found, Session):
            # A session ends with its token, which may have expired since its row was read.
            caller = self.tokens.caller(found.token, TokenCheck.BY_SESSION)
            if caller is not None:
                return found, caller
        if found is SessionCheck.UNAVAILABLE and (needs_token or inbound.method == "POST"):
            detail = "The database cannot be read, so that this sign-in cannot be checked now. Try again in a moment."
            raise Problem(Failure.STORE_UNAVAILABLE, detail, headers={"Retry-After": "5"})
        if needs_token:
            raise Problem(Failure.AUTH_REQUIRED, "The sign-in has ended.")
        return None

    def check_form(self, inbound: InboundRequest) -> None:
        """Raise `Problem` (403) if a form of the pages is sent from anywhere else than a page of the gateway itself."""
        if inbound.method == "POST" and is_page(inbound.target.path) and not is_from_own_page(inbound):
            raise Problem(Failure.ORIGIN_DENIED, "Only the status page of this gateway may send this.")

    def hides_authorization(self, inbound: InboundRequest) -> bool:
        """Whether `Authorization` is not forwarded: it holds a token of the gateway."""
        fields = inbound.fields
        caller: Caller | None = fields.caller
        is_known = caller is not None and caller.check is TokenCheck.BY_BEARER
        return is_known or self.tokens.hides(fields.authorization)

    def check_origin(self, inbound: InboundRequest, host: str | None) -> None:
        """Raise `Problem` (403) if a page of another origin that is not listed opens a WebSocket, or uses a ticket.

        `host` is the name that the request's route claims. A browser sends no token with a WebSocket, but it sends the
        user's cookies to whatever page opens it.
        """
        if not is_allowed(
            inbound.origin, inbound.public_host, self.cors.origins, lambda name: name == host or self._is_own(name)
        ):
            raise Problem(
                Failure.ORIGIN_DENIED,
                "Add the page's origin to cors.origins, or the gateway's own name to server.hosts.",
            )


def is_over(caller: Caller) -> bool:
    """Whether the token of a caller has expired since it was checked."""
    ends_at = caller.ends_at
    return ends_at is not None and (ends_at <= caller.use.passed or ends_at <= caller.acceptance.clock())


def _may_have_ticket(inbound: InboundRequest, *, is_native: bool) -> bool:
    if inbound.method != "GET":
        return False
    if is_native:
        return inbound.target.path in TICKET_PATHS
    if inbound.offered_upgrades(_WEBSOCKET, None):
        return True
    return weight_named((inbound.fields.accept or b"").decode("latin-1"), "text/event-stream") > 0
