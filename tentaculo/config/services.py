"""The form of `[services.<name>]`: where a service is, how it is asked for its health, and which paths lead to it.

The same rules as in `schema.py`: frozen, unit and default on every key, an unknown key is a fault.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from tentaculo.config.probes import Probe
from tentaculo.config.section import Section
from tentaculo.config.values import (
    Address,
    Bytes,
    Count,
    Flag,
    HeaderName,
    HeaderValue,
    HostHeader,
    PathPrefix,
    PathPrefixes,
    RouteHost,
    Seconds,
    Share,
    Token,
    VariableName,
)
from tentaculo.model import Upstream


class Breaker(Section):
    """When a failing upstream is given a rest."""

    failures: Annotated[Count, Field(ge=1)] = Field(5, description="Failures in a row that open it. Default 5.")
    rate: Annotated[Share, Field(gt=0)] = Field(
        0.5, description="Share of failing requests, from 0 to 1, that opens it too. Default 0.5."
    )
    requests: Annotated[Count, Field(ge=1)] = Field(
        20, description="Requests within the window below which the share opens nothing. Default 20."
    )
    window: Seconds = Field(10, description="Seconds of which the requests are counted. Default 10.")
    degraded_rate: Share = Field(
        0.1, description="Share of failing requests, at least 5 of them, that is shown as degraded. Default 0.1."
    )
    open_for: Seconds = Field(1, description="Seconds it stays open before one trial. Default 1.")


class Route(Section):
    """One path prefix of a service. The longest prefix wins, by whole path segments."""

    prefix: PathPrefix = Field(description='Path prefix, "/" for everything that no other route takes. Required.')
    host: RouteHost | None = Field(
        None, description="Only for this Host (without port); it then goes before routes without one. Default any."
    )
    strip: Flag = Field(False, description="Whether the prefix is removed before forwarding. Default false.")
    to: PathPrefix | None = Field(
        None, description="Replaces the prefix before forwarding. Default: the prefix is kept."
    )
    timeout: Seconds | None = Field(
        None,
        description="Seconds the upstream may stay silent, before the first byte and between bytes. Default [limits].",
    )
    connect_timeout: Seconds | None = Field(None, description="Seconds to connect. Default limits.connect.")
    max_body: Bytes | None = Field(
        None, description="Bytes of a request's body, else 413; 0 is unlimited. Default limits.body."
    )
    auth: Literal["token", "none"] = Field(
        "token", description='"none" opens the route without a token. Default "token".'
    )
    set_headers: dict[HeaderName, HeaderValue] = Field({}, description="Headers set on the request. Default none.")
    remove_headers: tuple[HeaderName, ...] = Field((), description="Headers removed from the request. Default none.")
    set_response_headers: dict[HeaderName, HeaderValue] = Field(
        {}, description="Headers set on the answer. Default none."
    )
    remove_response_headers: tuple[HeaderName, ...] = Field(
        (), description="Headers removed from the answer. Default none."
    )

    @model_validator(mode="after")
    def _strip_or_to(self) -> Route:
        if self.strip and self.to is not None:
            raise ValueError("has both strip and to; to already replaces the prefix")
        return self

    @property
    def replacement(self) -> str:
        """What stands in place of the prefix upstream: the prefix itself, `to`, or nothing. Never ends with /."""
        if self.strip:
            return ""
        return (self.prefix if self.to is None else self.to).rstrip("/")


class Service(Section):
    """[services.<name>]: one HTTP service behind the gateway."""

    name: str = Field("", description="The table's own name; not a key of the file.", exclude=True)
    url: Address | None = Field(
        None, description="Its address, http:// or https://, without a path. Required, or urls."
    )
    urls: tuple[Address, ...] = Field((), description="Several addresses in place of url, used in turn. Default none.")
    host: HostHeader | None = Field(None, description="Host header for the upstream. Default: the client's own.")
    aliases: tuple[str, ...] = Field((), description="Other names it is known by. Default none.")
    depends_on: tuple[str, ...] = Field(
        (), description="Services without which it cannot work: their failure explains its own. Default none."
    )
    enabled: Flag = Field(True, description="false: off on purpose, answered 503 and never a failure. Default true.")
    enabled_env: VariableName | None = Field(
        None, description="Environment variable that, when set to true or false, decides enabled. Default none."
    )
    off_reason: str = Field("off on purpose", description="Shown while it is off. Default: off on purpose.")
    token: Token | None = Field(
        None,
        description='Token sent to it as X-VX11-Token, "" for none. Default: TENTACULO_SERVICE_TOKEN, else the plain token.',
    )
    token_file: Path | None = Field(
        None, description="File that holds the token it is sent, in place of token. Default none."
    )
    health: PathPrefixes = Field(
        ("/health",), description='Health paths, tried in order until one answers well. Default ["/health"].'
    )
    routes: tuple[Route, ...] = Field(
        (), description="Its routes. Default none: its health is watched, and nothing is forwarded."
    )
    breaker: Breaker = Field(Breaker(), description="When a failing address of it is given a rest.")
    probe: Probe = Field(Probe(), description="How it is asked for its health.")

    @model_validator(mode="after")
    def _addresses(self) -> Service:
        if (self.url is None) == (not self.urls):
            raise ValueError("needs either url or urls")
        return self

    @property
    def addresses(self) -> tuple[str, ...]:
        """The configured addresses, one or several."""
        return (self.url,) if self.url is not None else self.urls

    @property
    def upstreams(self) -> tuple[Upstream, ...]:
        """The addresses, taken apart."""
        parts = [urlsplit(url) for url in self.addresses]
        return tuple(
            Upstream(self.name, p.hostname or "", p.port or (443 if p.scheme == "https" else 80), p.scheme == "https")
            for p in parts
        )
