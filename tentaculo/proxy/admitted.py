"""What was decided about a request: the very same request gets the very same again."""

from __future__ import annotations

from tentaculo.net.inbound_request import InboundRequest
from tentaculo.proxy.route import CompiledRoute


class PreparedRequest:
    """A request that may be forwarded, with all that is known of it but its id."""

    __slots__ = ("_head", "cors_lines", "inbound", "plan")

    def __init__(self, inbound: InboundRequest, plan: CompiledRoute, head: bytes, cors_lines: bytes) -> None:
        """`head` is what the upstream gets, without the request's id and the empty line; `cors_lines` go into every
        answer to this client's page."""
        self.inbound = inbound
        self.plan = plan
        self.cors_lines = cors_lines
        self._head = head

    def __repr__(self) -> str:
        return f"<Admitted {self.inbound.method} to {self.plan.service.name}>"

    def head(self, id_line: bytes) -> bytes:
        """The request's head as the upstream gets it; `id_line` is the request's id as a whole line."""
        rules = self.plan.request_rules
        return b"%b%b\r\n" % (self._head, rules.filter(id_line) if rules else id_line)
