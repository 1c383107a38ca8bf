"""The rules for every request, native or proxied: CORS preflights, tokens, and the Origin of a WebSocket. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from tentaculo.model.failure import Failure, Problem
from tentaculo.net.inbound_request import InboundRequest
from tentaculo.security.cors import CorsPolicy, is_allowed, is_local
from tentaculo.security.tokens import TokenCheck, Tokens


class AccessControl:
    """Decides about a request after its route was found and before its body is read."""

    def __init__(self, tokens: Tokens, cors: CorsPolicy, hosts: Collection[str] = ()) -> None:
        """`hosts` are the names of the gateway, `[server] hosts`."""
        self._tokens = tokens
        self._cors = cors
        self._hosts = frozenset(hosts)

    def __repr__(self) -> str:
        return f"<AccessControl: {self._tokens!r}, {self._cors!r}>"

    def _is_own(self, name: str) -> bool:
        # A name with a dot that is not configured may be an attacker's that resolves to this address (DNS rebinding).
        return is_local(name) or name in self._hosts

    def preflight(self, inbound: InboundRequest) -> Mapping[str, str] | None:
        """The headers of the response (204) to a listed origin's preflight, None for every other request."""
        if inbound.method != "OPTIONS" or inbound.origin is None:
            return None
        return self._cors.preflight(
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

    def hides_authorization(self, inbound: InboundRequest) -> bool:
        """Whether `Authorization` is not forwarded: it holds a token of the gateway."""
        fields = inbound.fields
        return fields.token_check is TokenCheck.BY_BEARER or self._tokens.hides(fields.authorization)

    def check_origin(self, inbound: InboundRequest, host: str | None) -> None:
        """Raise `Problem` (403) if a page of another origin that is not listed opens a WebSocket.

        `host` is the name that the request's route claims. A browser sends no token with a WebSocket, but it sends the
        user's cookies to whatever page opens it.
        """
        if not is_allowed(
            inbound.origin, inbound.public_host, self._cors.origins, lambda name: name == host or self._is_own(name)
        ):
            raise Problem(
                Failure.ORIGIN_DENIED,
                "Add the page's origin to cors.origins, or the gateway's own name to server.hosts.",
            )
