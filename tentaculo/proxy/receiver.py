"""Who takes over an upstream connection once it has changed its protocol."""

from __future__ import annotations

from typing import Protocol


class Receiver(Protocol):
    """Who takes the bytes of an upgraded connection."""

    def data_from_upstream(self, data: bytes) -> None:
        """Bytes as they came."""

    def upstream_can_write(self, can: bool) -> None:
        """The upstream's send buffer is full (False) or has room again (True)."""

    def upstream_lost(self, error: BaseException | None) -> None:
        """The upstream's side is gone."""
