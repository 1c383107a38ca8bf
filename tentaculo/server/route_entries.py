"""What an entry of the route table says of its requests, native or proxied, and the entry that redirects."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from tentaculo.model.history import RouteKey
from tentaculo.model.scopes import Needs, to_service


class Route(Protocol):
    """An entry of the route table."""

    @property
    def needs_token(self) -> bool:
        """Whether its requests need the gateway's token."""

    @property
    def needs(self) -> Needs:
        """The scopes that a caller needs who is known by a token."""
        ...

    @property
    def service_name(self) -> str | None:
        """The service for the record; None for a native route."""

    @property
    def key(self) -> RouteKey | None:
        """The route for the counts; None for a native route."""

    @property
    def is_native(self) -> bool:
        """Whether a native handler serves it."""

    @property
    def is_redirect(self) -> bool:
        """Whether the response is a redirection to the target that `RouteTable.find` returned."""

    @property
    def checks_origin(self) -> bool:
        """Whether a request for another protocol is judged by its Origin, unless a header authenticated it."""

    @property
    def claimed_host(self) -> str | None:
        """The host name that the route claims."""


class Redirect(NamedTuple):
    """The entry for a stripped prefix that ends with `/`, requested without it."""

    needs_token: bool
    key: RouteKey
    claimed_host: str | None
    is_native: bool = False
    is_redirect: bool = True
    checks_origin: bool = False

    @property
    def service_name(self) -> str:
        """The service of the route."""
        return self.key.service

    @property
    def needs(self) -> Needs:
        """Those of the route."""
        return to_service(self.key.service)
