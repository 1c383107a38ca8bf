"""What the proxy returns to aiohttp's server for a response that was sent already."""

from __future__ import annotations

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter


class SentResponse(web.StreamResponse):
    """Tells aiohttp's server that the answer is on its way already, and whether the connection stays.

    The two methods that the server calls on a response do nothing, so that one instance serves every request.
    """

    def __init__(self, *, keep_alive: bool) -> None:
        super().__init__()
        self._stays = keep_alive

    @property
    def keep_alive(self) -> bool | None:
        """Whether the connection stays open."""
        return self._stays

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Nothing is left to prepare."""
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing is left to write."""


SENT_STAYS = SentResponse(keep_alive=True)
SENT_CLOSES = SentResponse(keep_alive=False)
