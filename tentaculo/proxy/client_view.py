"""How a client addresses the gateway: by what a trusted peer says of it, else by what its request shows."""

from __future__ import annotations

import re
from typing import NamedTuple

from tentaculo.config.types import DEFAULT_PORTS
from tentaculo.net.http1 import is_authority
from tentaculo.net.inbound_request import InboundRequest
from tentaculo.net.request_headers import outer_prefix

_FORWARDED = re.compile(r'(?:^|;)[ \t]*(host|proto)[ \t]*=[ \t]*("[^"]*"|[^;]*)', re.IGNORECASE)


class ClientView(NamedTuple):
    """How a client addresses the gateway."""

    scheme: str
    host: str
    """With the port, where one is needed. Empty for a client of HTTP/1.0 that names none."""
    received: str
    """The Host that reached the gateway. It differs from `host` behind a proxy that writes its own."""
    prefix: str = ""
    """The prefix that a trusted proxy has removed."""


def client_view(inbound: InboundRequest) -> ClientView:
    """The view of the client of `inbound`: what a trusted proxy says of it, else what the request shows."""
    client = inbound.client
    received = inbound.host.decode("utf-8", "surrogateescape")
    known = inbound.forwarded_by_trusted
    if not known:
        return ClientView(client.scheme, received, received)
    pairs = _FORWARDED.findall(_last(known.get(b"forwarded", b"")))[-8:]
    element = {name.lower(): value.strip().strip('"') for name, value in pairs}
    scheme = (_last(known.get(b"x-forwarded-proto", b"")) or element.get("proto", "")).lower()
    if scheme not in DEFAULT_PORTS:
        scheme = client.scheme
    host = _last(known.get(b"x-forwarded-host", b"")) or element.get("host", "")
    if not host or not is_authority(host):
        host = received
    elif not split_port(host)[1]:
        port = _last(known.get(b"x-forwarded-port", b""))
        # Many proxies state the port at which they listen behind a port mapping: only an unusual one is believed.
        if port.isascii() and port.isdigit() and len(port) < 6 and int(port) not in (80, 443, client.port):
            host = f"{host}:{port}"
    return ClientView(scheme, host, received, outer_prefix(known))


def split_port(authority: str) -> tuple[str, str]:
    """Name and port of an authority; an empty port where none is stated."""
    name, colon, port = authority.rpartition(":")
    return (name, port) if colon and (not port or (port.isascii() and port.isdigit())) else (authority, "")


def plain_authority(scheme: str, authority: str) -> str:
    """An authority in the form that compares: in lower case, without the scheme's own port."""
    return authority.lower().removesuffix(f":{DEFAULT_PORTS[scheme]}")


def is_within(name: str, domain: str) -> bool:
    """Whether a host's name is `domain` or below it."""
    return name == domain or name.endswith("." + domain)


def _last(value: bytes) -> str:
    """The last member of a list: what the trusted proxy added. Those before it are any client's word."""
    return value.decode("utf-8", "surrogateescape").rpartition(",")[2].strip()
