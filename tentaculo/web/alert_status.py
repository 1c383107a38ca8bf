"""What the channels of alerts have done so far, as JSON for the endpoint and the command."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from aiohttp import web

from tentaculo.model import access
from tentaculo.model.incident import ChannelTotals
from tentaculo.server.native_routes import NativeRoute, json_response


def channel_shape(kind: str, totals: ChannelTotals) -> dict[str, Any]:
    """One channel of alerts."""
    return {
        "name": totals.name,
        "kind": kind,
        "sent": totals.sent,
        "failed": totals.failed,
        "last_sent_at": totals.last_sent_at,
        "last_error_at": totals.last_error_at,
        "last_error": totals.last_error or None,
    }


class ListsChannels(Protocol):
    """Who knows of the channels of alerts."""

    kinds: Mapping[str, str]
    """The kind of each channel, by its name."""

    async def read(self) -> tuple[list[ChannelTotals], str | None]:
        """The totals of each channel, and why they may lack those of earlier starts."""
        ...


def routes(channels: ListsChannels) -> list[NativeRoute]:
    """The route `/tentaculo/alerts`."""

    async def show(request: web.Request) -> web.Response:
        found, problem = await channels.read()
        return json_response(
            {"channels": [channel_shape(channels.kinds[one.name], one) for one in found], "problem": problem}
        )

    return [NativeRoute("GET", "/tentaculo/alerts", show, access.STATUS, None)]
