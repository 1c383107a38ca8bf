"""Who may pass: the token, the Origin of a WebSocket, and what no upstream is to be bothered with."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tentaculo.model.failure import Failure, Problem
from tentaculo.proxy.inbound_request import InboundRequest
from tentaculo.proxy.route import CompiledRoute
from tentaculo.security.cors import CorsPolicy, is_allowed
from tentaculo.security.tokens import TokenCheck, Tokens


class AccessControl:
    """Judges a request that has found its route, before a byte of its body is read."""

    def __init__(self, tokens: Tokens, cors: CorsPolicy, why_off: Callable[[str], str], name: bytes) -> None:
        """`why_off` says why a service is off; `name` is the gateway's own in Via."""
        self._tokens = tokens
        self._cors = cors
        self._why_off = why_off
        self._name = name

    def __repr__(self) -> str:
        return f"<Gate: {self._tokens!r}, {self._cors!r}>"

    def preflight(self, inbound: InboundRequest) -> Mapping[str, str] | None:
        """The headers of the answer (204) to a listed origin's preflight, None for every other request."""
        if inbound.method != "OPTIONS" or inbound.origin is None:
            return None
        return self._cors.preflight(
            inbound.origin,
            inbound.first(b"access-control-request-method"),
            inbound.first(b"access-control-request-headers"),
        )

    def cors_lines(self, inbound: InboundRequest) -> bytes:
        """The header lines that an answer to this origin carries."""
        if inbound.fields.origin is None:
            return b""
        headers = self._cors.headers(inbound.origin)
        return "".join([f"{name}: {value}\r\n" for name, value in headers.items()]).encode("latin-1")

    def authorise(self, inbound: InboundRequest, plan: CompiledRoute) -> bool:
        """Whether `Authorization` is what authenticated, and must not go on. Raises `Problem` (401, 403)."""
        if not plan.needs_token:
            return False
        fields = inbound.fields
        verdict = fields.verdict
        if verdict is None:
            verdict = fields.verdict = self._tokens.check(fields.token, fields.authorization)
        if verdict is TokenCheck.MISSING:
            raise Problem(Failure.AUTH_REQUIRED)
        if verdict is TokenCheck.WRONG:
            raise Problem(Failure.FORBIDDEN)
        return verdict is TokenCheck.BY_BEARER

    def check(self, inbound: InboundRequest, plan: CompiledRoute) -> None:
        """Raise `Problem` for what must not go on: too large, come in a circle, a foreign page's WebSocket, off."""
        fields = inbound.fields
        if plan.max_body and inbound.length is not None and inbound.length > plan.max_body:
            raise Problem(Failure.BODY_TOO_LARGE, f"The body is larger than {plan.max_body} bytes.")
        if fields.via is not None and any(self._name in value for value in fields.via):
            raise Problem(Failure.LOOP)
        # A browser sends no token of its own with a WebSocket, but it sends the cookies of whoever visits the page.
        if inbound.wants_upgrade and not is_allowed(inbound.origin, inbound.public_host, self._cors.origins):
            raise Problem(Failure.ORIGIN_DENIED)
        if plan.balancer is None:
            name = plan.service.name
            raise Problem(Failure.SERVICE_OFF, self._why_off(name), {"service": name})
