"""The certificate that an endpoint shows to those who connect to it. Frozen values; times are UTC."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Certificate:
    """The certificate of an endpoint, in a chain that was verified. Its texts are untrusted, printable and cut."""

    names: tuple[str, ...]
    """The first of the names and IP addresses for which it is valid."""
    more_names: int
    """How many further ones it has."""
    issuer: str
    begins: datetime | None
    ends: datetime
    chain_ends: datetime
    """When the first certificate of the chain ends: its own or one of an issuer."""

    @property
    def is_issuer_first(self) -> bool:
        """Whether an issuer's certificate ends before the endpoint's own."""
        return self.chain_ends < self.ends
