"""The rules for every request, native or proxied: CORS preflights, tokens, tickets, sessions, and the Origin of a page."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from tentaculo.model.failure import Failure, Problem
from tentaculo.net.inbound_request import InboundRequest
from tentaculo.security.cors import CorsPolicy, is_allowed, is_local
from tentaculo.security.sessions import Session, SessionCheck, Sessions
from tentaculo.security.tickets import TicketCheck, Tickets, is_ticket, tickets_in
from tentaculo.security.tokens import TokenCheck, Tokens
from tentaculo.server.caller import is_from_own_page, is_page, session_id_of

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
        self._tokens = tokens
        self._tickets = tickets
        self._sessions = sessions
        self.cors = cors
        """Which origins are listed."""
        self._hosts = frozenset(hosts)

    def __repr__(self) -> str:
        return f"<AccessControl: {self._tokens!r}, {self.cors!r}>"

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

    def authenticate(self, inbound: InboundRequest, *, needs_token: bool) -> TokenCheck:
        """Check the request's token. Raises `Problem` (401, 403) if it `needs_token` and none is accepted.

        On an open route a token that is not accepted is no error: it may be for the service.
        """
        fields = inbound.fields
        check = fields.token_check
        if type(check) is not TokenCheck:
            check = fields.token_check = self._tokens.check(fields.token, fields.authorization)
        if needs_token and check is TokenCheck.MISSING:
            raise Problem(Failure.AUTH_REQUIRED)
        if needs_token and check is TokenCheck.WRONG:
            raise Problem(Failure.FORBIDDEN)
        return check

    def caller_name(self, inbound: InboundRequest) -> str | None:
        """What stands for the token in the header that authenticated a request; None where it was none."""
        fields = inbound.fields
        if fields.token_check is TokenCheck.BY_HEADER and fields.token is not None:
            return self._tokens.fingerprint(fields.token)
        if fields.token_check is TokenCheck.BY_BEARER and fields.authorization is not None:
            return self._tokens.fingerprint(fields.authorization[len(b"bearer ") :].strip())
        return None

    def find_ticket(self, inbound: InboundRequest, *, is_native: bool, needs_token: bool) -> FoundTicket:
        """The ticket in the query of a request, which `redeem_ticket` is to check. Raises `Problem` (401).

        Only a request that a browser makes without headers of the page's choice may have one: the handshake of a
        WebSocket, and a GET for an event stream. A token in a header counts more. A parameter `ticket` of another form is
        the service's, unless the caller has nothing else to be authenticated by.
        """
        if not _may_have_ticket(inbound, is_native=is_native):
            return _NOTHING
        found = tickets_in(inbound.target.query)
        ours = [ticket for ticket in found if is_ticket(ticket)]
        if self.authenticate(inbound, needs_token=False) is not TokenCheck.MISSING:
            return FoundTicket(None, ours)
        if not ours and not (found and needs_token):
            return _NOTHING
        if len(found) > 1:
            raise Problem(Failure.AUTH_REQUIRED, "The query has more than one ticket.")
        return FoundTicket(found[0], ours)

    async def redeem_ticket(self, ticket: str) -> None:
        """Use a ticket up. Raises `Problem`: 401 if it is not valid, 503 if that cannot be known now."""
        check = await self._tickets.redeem(ticket)
        if check is TicketCheck.REFUSED:
            raise Problem(Failure.AUTH_REQUIRED, "The ticket is unknown, expired or used.")
        if check is TicketCheck.UNAVAILABLE:
            detail = "The ticket cannot be checked now. Try again with a new one."
            raise Problem(Failure.STORE_UNAVAILABLE, detail, headers={"Retry-After": "1"})

    def session_id(self, inbound: InboundRequest) -> bytes | None:
        """The session id in the cookie of a request to a native path, which `find_session` is to look up.

        A token in a header counts more.
        """
        if self.authenticate(inbound, needs_token=False) is not TokenCheck.MISSING:
            return None
        return session_id_of(inbound)

    async def find_session(self, inbound: InboundRequest, session_id: bytes, *, needs_token: bool) -> Session | None:
        """The session of an id, None where it has ended and the route is open. Raises `Problem`.

        401 if it has ended and the route `needs_token`, 503 if that cannot be known now.
        """
        found = await self._sessions.find(session_id)
        if isinstance(found, Session):
            return found
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
        return fields.token_check is TokenCheck.BY_BEARER or self._tokens.hides(fields.authorization)

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


def _may_have_ticket(inbound: InboundRequest, *, is_native: bool) -> bool:
    if inbound.method != "GET":
        return False
    if is_native:
        return inbound.target.path in TICKET_PATHS
    if inbound.offered_upgrades(_WEBSOCKET, None):
        return True
    accepted = (inbound.fields.accept or b"").split(b",")
    return any(media.partition(b";")[0].strip().lower() == b"text/event-stream" for media in accepted)
