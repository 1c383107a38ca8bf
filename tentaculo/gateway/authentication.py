"""Who may call: the accepted tokens, tickets, sessions and the sign-in of a gateway, through all its configurations."""

from __future__ import annotations

from collections.abc import Callable

from tentaculo.config.accepted_tokens import AcceptedTokens
from tentaculo.config.schema import Config
from tentaculo.gateway.coordination import Coordination
from tentaculo.gateway.token_watch import TokenWatch
from tentaculo.model.event import RecordOwnEvent
from tentaculo.security.sessions import Sessions
from tentaculo.security.sign_in import AttemptLimit, SignIn
from tentaculo.security.tickets import Tickets
from tentaculo.security.token_file import WatchedTokenFile, token_file
from tentaculo.security.tokens import Tokens, TokenUse
from tentaculo.store.client import StoreClient
from tentaculo.store.sessions import SessionTable
from tentaculo.store.tickets import TicketTable
from tentaculo.store.token_uses import TokenUseTable
from tentaculo.tasks import TaskGroup


class Authentication:
    """The parts of one gateway."""

    def __init__(
        self,
        config: Config,
        tokens: AcceptedTokens,
        store_client: StoreClient,
        coordination: Coordination | None,
        record: RecordOwnEvent,
        replace: Callable[[Tokens], None],
    ) -> None:
        """`record` records an event of the gateway's own. `replace` is called with the accepted tokens when the token file
        has changed: it puts them in place, and calls `use`."""
        run = store_client.run
        self._uses: dict[str, TokenUse] = {}
        self.tokens = Tokens(tokens, enabled=config.auth.enabled, names=config.names, uses=self._uses)
        """The accepted tokens."""
        self.tickets = Tickets(TicketTable(run), enabled=config.auth.enabled)
        self.sessions = Sessions(SessionTable(run), self.tokens.has_fingerprint)
        sign_ins = AttemptLimit()
        if coordination is not None:
            coordination.share_sign_ins(sign_ins)
        self.sign_in = SignIn(self.tokens, self.sessions, sign_ins)
        self.watch = TokenWatch(
            lambda: self.tokens,
            replace,
            TokenUseTable(run),
            record,
            file=self._watched_file(config, self.tokens),
            is_leader=coordination is None or coordination.is_leader,
        )

    def __repr__(self) -> str:
        return f"<Authentication: {self.tokens!r}>"

    def accepted(self, config: Config, tokens: AcceptedTokens) -> Tokens:
        """The accepted tokens of a configuration, which is not served yet. What is known of each of them is kept.

        Those that are served where they are the same: to make a thousand takes 4 ms.
        """
        enabled, names = config.auth.enabled, config.names
        if self.tokens.is_made_of(tokens, enabled=enabled, names=names):
            return self.tokens
        return Tokens(tokens, enabled=enabled, names=names, uses=self._uses)

    def with_file_of(self, tokens: Tokens, newer: Tokens, config: Config) -> Tokens:
        """`tokens`, which are those of `config`, with what the token file has in `newer` where both are of one file."""
        file = self.watch.file
        if file is None or not tokens.enabled or file.path != token_file(config):
            return tokens
        known, others = ([settings for settings, _, _ in one.listed] for one in (tokens, newer))
        return tokens.replaced_by(file.with_others(known, [one for one in others if file.has(one)]))

    @staticmethod
    def _watched_file(config: Config, tokens: Tokens) -> WatchedTokenFile | None:
        listed = [settings for settings, _, _ in tokens.listed]
        return WatchedTokenFile(config, listed) if config.auth.enabled else None

    def use(self, tokens: Tokens, config: Config | None = None) -> None:
        """Accept these from now on; `config` is that of a reload that they were read with."""
        if config is not None:
            # It may have changed between the time at which the reload has read it and now.
            self.watch.file = self._watched_file(config, tokens)
        self.tokens = self.sign_in.tokens = tokens
        self.tickets.enabled = tokens.enabled
        self.sessions.use(tokens.has_fingerprint)

    def start(self, tasks: TaskGroup) -> None:
        """Start what runs as long as the gateway does. Nothing is served yet."""
        self.watch.begin()
        tasks.start(self.tickets.run(), "tickets")
        tasks.start(self.sessions.run(), "sessions")
        tasks.start(self.watch.run(), "tokens")
