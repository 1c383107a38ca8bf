"""Who may call: the accepted tokens, tickets, sessions and the sign-in of a gateway, and the rules that join them."""

from __future__ import annotations

from tentaculo.config.accepted_tokens import AcceptedTokens
from tentaculo.config.schema import Config
from tentaculo.gateway.coordination import Coordination
from tentaculo.gateway.token_watch import Record, TokenWatch
from tentaculo.security.cors import CorsPolicy
from tentaculo.security.sessions import Sessions
from tentaculo.security.sign_in import AttemptLimit, SignIn
from tentaculo.security.tickets import Tickets
from tentaculo.security.token_file import WatchedTokenFile
from tentaculo.security.tokens import Tokens, TokenUse
from tentaculo.server.access_control import AccessControl
from tentaculo.store.client import StoreClient
from tentaculo.store.sessions import SessionTable
from tentaculo.store.tickets import TicketTable
from tentaculo.store.token_uses import TokenUseTable
from tentaculo.tasks import TaskGroup


class Authentication:
    """The parts of one gateway. All but `access` outlast a configuration."""

    def __init__(
        self,
        config: Config,
        tokens: AcceptedTokens,
        cors: CorsPolicy,
        store_client: StoreClient,
        coordination: Coordination | None,
        record: Record,
    ) -> None:
        """`record` records an event of the gateway's own."""
        run = store_client.run
        self._uses: dict[str, TokenUse] = {}
        self.tickets = Tickets(TicketTable(run), enabled=config.auth.enabled)
        self.sessions = Sessions(SessionTable(run), lambda fingerprint: self.tokens.has_fingerprint(fingerprint))
        self.access = self.rules(config, tokens, cors)
        """The rules of the configuration that is served. Put others in its place to exchange the accepted tokens."""
        sign_ins = AttemptLimit()
        if coordination is not None:
            coordination.share_sign_ins(sign_ins)
        self.sign_in = SignIn(lambda: self.tokens, self.sessions, sign_ins)
        is_leader = coordination is None or coordination.is_leader
        self.watch = TokenWatch(
            lambda: self.tokens,
            self._replace,
            TokenUseTable(run),
            record,
            file=WatchedTokenFile(config) if config.auth.enabled else None,
            is_leader=is_leader,
        )

    def __repr__(self) -> str:
        return f"<Authentication: {self.access!r}>"

    @property
    def tokens(self) -> Tokens:
        """The accepted tokens."""
        return self.access.tokens

    def _replace(self, tokens: Tokens) -> None:
        self.access.tokens = tokens

    def rules(self, config: Config, tokens: AcceptedTokens, cors: CorsPolicy) -> AccessControl:
        """The rules of a configuration, which is not served yet. What is known of its tokens is kept."""
        accepted = Tokens(tokens, enabled=config.auth.enabled, names=config.names, uses=self._uses)
        return AccessControl(accepted, cors, self.tickets, self.sessions, config.server.hosts)

    def start(self, tasks: TaskGroup) -> None:
        """Start what runs as long as the gateway does."""
        tasks.start(self.tickets.run(), "tickets")
        tasks.start(self.sessions.run(), "sessions")
        tasks.start(self.watch.run(), "tokens")
