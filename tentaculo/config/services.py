"""The form of `[services.<name>]`: where a service is, how it is asked for its health, and which paths lead to it.

The same rules as in `schema.py`: frozen, unit and default on every key, an unknown key is a fault.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from tentaculo.config.constraints import at_least, more_than
from tentaculo.config.probes import ProbeSettings
from tentaculo.config.section import INTERNAL, Section
from tentaculo.config.types import (
    Bytes,
    HeaderName,
    HeaderValue,
    HostHeader,
    HttpAddress,
    PathPrefix,
    PathPrefixes,
    RouteHost,
    Seconds,
    Share,
    Token,
    VariableName,
)
from tentaculo.model.endpoint import Endpoint


class BreakerSettings(Section, frozen=True):
    """When a failing upstream is given a rest."""

    failures: Annotated[int, at_least(1), "Failures in a row that open it. Default 5."] = 5
    rate: Annotated[Share, more_than(0), "Share of failing requests, from 0 to 1, that opens it too. Default 0.5."] = (
        0.5
    )
    requests: Annotated[
        int, at_least(1), "Requests within the window below which the share opens nothing. Default 20."
    ] = 20
    window: Annotated[Seconds, "Seconds of which the requests are counted. Default 10."] = 10
    degraded_rate: Annotated[
        Share, "Share of failing requests, at least 5 of them, that is shown as degraded. Default 0.1."
    ] = 0.1
    open_for: Annotated[Seconds, "Seconds it stays open before one trial. Default 10."] = 10


class RouteSettings(Section, frozen=True):
    """One path prefix of a service. The longest prefix wins, by whole path segments."""

    prefix: Annotated[PathPrefix, 'Path prefix, "/" for everything that no other route takes. Required.']
    host: Annotated[
        RouteHost | None, "Only for this Host (without port); it then goes before routes without one. Default any."
    ] = None
    strip: Annotated[bool, "Whether the prefix is removed before forwarding. Default false."] = False
    to: Annotated[PathPrefix | None, "Replaces the prefix before forwarding. Default: the prefix is kept."] = None
    timeout: Annotated[
        Seconds | None,
        "Seconds the upstream may stay silent, before the first byte and between bytes. Default [limits].",
    ] = None
    connect_timeout: Annotated[Seconds | None, "Seconds to connect. Default limits.connect."] = None
    max_body: Annotated[Bytes | None, "Bytes of a request's body, else 413; 0 is unlimited. Default limits.body."] = (
        None
    )
    auth: Annotated[Literal["token", "none"], '"none" opens the route without a token. Default "token".'] = "token"
    send_token: Annotated[
        bool, "Whether the service's token is sent for callers without an accepted token too. Default false."
    ] = False
    set_headers: Annotated[dict[HeaderName, HeaderValue], "Headers set on the request. Default none."] = {}
    remove_headers: Annotated[tuple[HeaderName, ...], "Headers removed from the request. Default none."] = ()
    set_response_headers: Annotated[dict[HeaderName, HeaderValue], "Headers set on the answer. Default none."] = {}
    remove_response_headers: Annotated[tuple[HeaderName, ...], "Headers removed from the answer. Default none."] = ()

    def check(self) -> None:
        """Raises ValueError where it says in two ways what becomes of the prefix."""
        if self.strip and self.to is not None:
            raise ValueError("has both strip and to; to already replaces the prefix")

    @property
    def replacement(self) -> str:
        """What stands in place of the prefix upstream: the prefix itself, `to`, or nothing. Never ends with /."""
        if self.strip:
            return ""
        return (self.prefix if self.to is None else self.to).rstrip("/")


class ServiceSettings(Section, frozen=True):
    """[services.<name>]: one HTTP service behind the gateway."""

    name: Annotated[str, INTERNAL] = ""
    url: Annotated[HttpAddress | None, "Its address, http:// or https://, without a path. Required, or urls."] = None
    urls: Annotated[tuple[HttpAddress, ...], "Several addresses in place of url, used in turn. Default none."] = ()
    host: Annotated[HostHeader | None, "Host header for the upstream. Default: the client's own."] = None
    aliases: Annotated[tuple[str, ...], "Other names it is known by. Default none."] = ()
    depends_on: Annotated[
        tuple[str, ...], "Services without which it cannot work: their failure explains its own. Default none."
    ] = ()
    enabled: Annotated[bool, "false: off on purpose, answered 503 and never a failure. Default true."] = True
    enabled_env: Annotated[
        VariableName | None, "Environment variable that, when set to true or false, decides enabled. Default none."
    ] = None
    off_reason: Annotated[str, "Shown while it is off. Default: off on purpose."] = "off on purpose"
    token: Annotated[
        Token | None,
        'Token sent to it as X-VX11-Token, "" for none. Default: TENTACULO_SERVICE_TOKEN.',
    ] = None
    token_file: Annotated[Path | None, "File that holds the token it is sent, in place of token. Default none."] = None
    health: Annotated[PathPrefixes, 'Health paths, tried in order until one answers well. Default ["/health"].'] = (
        "/health",
    )
    routes: Annotated[
        tuple[RouteSettings, ...], "Its routes. Default none: its health is watched, and nothing is forwarded."
    ] = ()
    breaker: Annotated[BreakerSettings, "When a failing address of it is given a rest."] = BreakerSettings()
    probe: Annotated[ProbeSettings, "How it is asked for its health."] = ProbeSettings()

    def check(self) -> None:
        """Raises ValueError where it has no address, or both forms of them."""
        if (self.url is None) == (not self.urls):
            raise ValueError("needs either url or urls")

    @property
    def addresses(self) -> tuple[str, ...]:
        """The configured addresses, one or several."""
        return (self.url,) if self.url is not None else self.urls

    @property
    def upstreams(self) -> tuple[Endpoint, ...]:
        """The addresses, taken apart."""
        parts = [urlsplit(url) for url in self.addresses]
        return tuple(
            Endpoint(self.name, p.hostname or "", p.port or (443 if p.scheme == "https" else 80), p.scheme == "https")
            for p in parts
        )
