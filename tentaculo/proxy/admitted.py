"""What was decided about a request: the very same request gets the very same again."""

from __future__ import annotations

from tentaculo.proxy.inbound import Inbound
from tentaculo.proxy.outbound import outbound_head
from tentaculo.proxy.plan import Plan


class Admitted:
    """A request that may be forwarded, with all that is known of it but its id."""

    __slots__ = ("_head", "_via", "cors_lines", "hides_authorization", "inbound", "path", "plan", "token_line")

    def __init__(
        self,
        inbound: Inbound,
        plan: Plan,
        path: str,
        *,
        via: bytes,
        cors_lines: bytes,
        token_line: bytes,
        hides_authorization: bool,
    ) -> None:
        """
        `path` is the target that the upstream is to see, `via` the gateway's name. `cors_lines` go into every answer to
        this client's page, `token_line` is the service's own token; both are whole lines or empty.
        `hides_authorization` is for an Authorization that was meant for the gateway.
        """
        self.inbound = inbound
        self.plan = plan
        self.path = path
        self.cors_lines = cors_lines
        self.token_line = token_line
        self.hides_authorization = hides_authorization
        self._via = via
        self._head: bytes | None = None

    def __repr__(self) -> str:
        return f"<Admitted {self.inbound.method} to {self.plan.service.name}>"

    def head(self, id_line: bytes) -> bytes:
        """The request's head as the upstream gets it; `id_line` is the request's id as a whole line."""
        rules = self.plan.request_rules
        head = self._head
        if head is None:
            head = self._head = outbound_head(
                self.inbound,
                self.plan,
                self.path,
                via=self._via,
                token_line=self.token_line,
                hides_authorization=self.hides_authorization,
            )
        return b"%b%b\r\n" % (head, rules.filter(id_line) if rules else id_line)
