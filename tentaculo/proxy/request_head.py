"""The request head that an upstream gets. It is a new value; the inbound request is never changed.

The fields that say where a request came from (X-Forwarded-*, X-Real-IP, Forwarded of RFC 7239) are written new for a peer
that is not trusted. The values of a trusted peer are kept, and the peer is appended to the chains.
"""

from __future__ import annotations

from functools import lru_cache

import msgspec

from tentaculo.config.types import DEFAULT_PORTS
from tentaculo.net.header_fields import REQUEST_NAMES, Line
from tentaculo.net.inbound_request import InboundRequest, Request
from tentaculo.net.request_headers import ForwardedFields, RequestHeaders, outer_prefix
from tentaculo.proxy.address_mapping import REQUEST_FIELDS, AddressMapping
from tentaculo.proxy.client_view import client_view
from tentaculo.proxy.response_head import ResponseKey, may_be_trailer
from tentaculo.proxy.route import CompiledRoute, HeaderRules
from tentaculo.security.client_networks import parse_client_address

_MOST_TRAILERS = 128
"""Trailer fields that a request may announce, as many as it may have fields."""


class CachedRequestHead(msgspec.Struct, frozen=True):
    """The rendered head of requests with the same fields by the same route. Such requests have passed every check."""

    key: tuple[object, ...]
    """What it depends on beside the fields: route, method, version, host, caller, and what of it is hidden."""
    block: bytes
    """The field lines for the upstream, without the request id and the empty line."""
    cors_lines: bytes
    """Whole lines that every response to this client's page carries."""
    response_key: ResponseKey
    """What the head of the response depends on."""


def outbound_block(
    inbound: InboundRequest, plan: CompiledRoute, *, via: bytes, token_line: bytes, hides_authorization: bool
) -> bytes:
    """The field lines for the upstream, without the request id and the empty line. Raises `Problem`.

    `via` is the gateway's name; `token_line` is the service's own token, a whole line or empty; `hides_authorization`
    is whether Authorization holds a token of the gateway.
    """
    host = plan.host if plan.host is not None else inbound.host or plan.default_host
    own = _own_lines(inbound, plan, via, token_line, hides_authorization=hides_authorization)
    return header_block(_mapped_lines(inbound, plan), host, own, plan.request_rules)


def _mapped_lines(inbound: InboundRequest, plan: CompiledRoute) -> list[Line]:
    """The client's lines, with each address as the service sees it. Raises `Problem` for one that must not pass."""
    lines = inbound.fields.lines
    if not inbound.fields.has_addresses:
        return lines
    mapping = AddressMapping(plan, client_view(inbound), None)
    return [
        (lower, name, mapping.to_service(lower, value) if lower in REQUEST_FIELDS else value)
        for lower, name, value in lines
    ]


def _own_lines(
    inbound: InboundRequest, plan: CompiledRoute, via: bytes, token_line: bytes, *, hides_authorization: bool
) -> bytes:
    """The lines that the gateway adds, without the request id: the same for the same client and fields."""
    fields, client = inbound.fields, inbound.client
    fields.drop_named()
    arguments = (client.address, client.scheme, inbound.host, client.port, plan.public_prefix)
    forwarded = inbound.forwarded_by_trusted
    added = [forwarded_lines(*arguments) if forwarded is None else trusted_forwarded_lines(forwarded, *arguments)]
    if plan.via:
        added.append(b"Via: 1.%d %b\r\n" % (inbound.minor, via))
    if inbound.is_chunked:
        added.append(b"Transfer-Encoding: chunked\r\n")
        if names := announced_trailers(fields, plan.request_rules):
            added.append(b"Trailer: %b\r\n" % b", ".join(names))
    elif inbound.length is not None:
        added.append(b"Content-Length: %d\r\n" % inbound.length)
    if fields.expect is not None and inbound.minor == 1:
        added.append(b"Expect: %b\r\n" % fields.expect)
    if fields.max_forwards is not None:
        fields.lines = count_down(fields.lines, inbound.method)
    if inbound.wants_upgrade and (offered := inbound.offered_upgrades(plan.upgrades, plan.upgrade_methods)):
        added.append(b"Connection: Upgrade\r\nUpgrade: %b\r\n" % b", ".join(offered))
    if fields.te_trailers:
        added.append(b"Connection: TE\r\nTE: trailers\r\n")
    if inbound.method == "TRACE":
        # Its response repeats the request: nothing secret may be in it (RFC 9110 section 9.3.8).
        fields.lines = [line for line in fields.lines if line[0] != b"cookie"]
    else:
        if fields.authorization is not None and not hides_authorization:
            added.append(b"Authorization: %b\r\n" % fields.authorization)
        added.append(token_line)
    return b"".join(added)


def announced_trailers(fields: RequestHeaders, rules: HeaderRules) -> list[bytes]:
    """The names of the trailer fields that the client announces and that pass, as it wrote them."""
    if fields.trailer is None:
        return []
    special = REQUEST_NAMES | (fields.named or set())
    names = [name.strip(b" \t") for name in fields.trailer.split(b",", _MOST_TRAILERS)[:_MOST_TRAILERS]]
    return [name for name in names if name and may_be_trailer(name, special, rules)]


def request_trailers(request: Request, fields: RequestHeaders, rules: HeaderRules) -> bytes:
    """The trailer lines of the request's body, which is here whole, that the client announced and that pass."""
    if fields.trailer is None:
        return b""
    names = {name.lower() for name in announced_trailers(fields, rules)}
    return b"".join([line for line, name in request.protocol.trailers_of(request.content) if name.lower() in names])


def header_block(lines: list[Line], host: bytes, added: bytes, rules: HeaderRules) -> bytes:
    """The field lines for the upstream: Host, the client's `lines`, then `added` and those that the route sets.

    `added` are whole lines; a line that the route sets or removes is left out of them.
    """
    parts = [b"Host: ", host, b"\r\n"]
    extend = parts.extend
    if rules:
        for lower, name, value in lines:
            if not rules.removes(lower):
                extend((name, b": ", value, b"\r\n"))
        added = rules.filter(added)
    else:
        for _, name, value in lines:
            extend((name, b": ", value, b"\r\n"))
    extend((added, rules.block))
    return b"".join(parts)


def count_down(lines: list[Line], method: str) -> list[Line]:
    """`lines` with Max-Forwards reduced by one, for TRACE and OPTIONS (RFC 9110 section 7.6.2)."""
    if method not in ("TRACE", "OPTIONS"):
        return lines
    return [
        (lower, name, b"%d" % (int(value) - 1) if lower == b"max-forwards" and _is_count(value) else value)
        for lower, name, value in lines
    ]


def _is_count(value: bytes) -> bool:
    return value.isdigit() and len(value) < 10 and int(value) > 0


@lru_cache(maxsize=1024)
def forwarded_lines(peer: str, scheme: str, host: bytes, port: int, prefix: str) -> bytes:
    """The header lines for a peer that is not trusted. They depend on the connection and the route, hence the cache."""
    return trusted_forwarded_lines({}, peer, scheme, host, port, prefix)


def trusted_forwarded_lines(
    known: ForwardedFields, peer: str, scheme: str, host: bytes, port: int, prefix: str
) -> bytes:
    """The header lines for a trusted peer that sent the fields `known` (names in lower case)."""
    sent = known.get
    chain = sent(b"x-forwarded-for", b"")
    forwarded = sent(b"forwarded", b"")
    # The trusted peer added the last address itself; any client can write those before it.
    client = chain.rpartition(b",")[2].strip() or peer.encode()
    # Some add the port too, which is none of the address.
    address = parse_client_address(client.decode("latin-1"))
    values = (
        (b"X-Forwarded-For", _append(chain, peer.encode())),
        (b"X-Forwarded-Proto", sent(b"x-forwarded-proto", scheme.encode())),
        (b"X-Forwarded-Host", sent(b"x-forwarded-host", host)),
        (b"X-Forwarded-Port", sent(b"x-forwarded-port") or b"%d" % _client_port(known, port, host)),
        (b"X-Real-IP", sent(b"x-real-ip", client if address is None else str(address).encode())),
        (b"Forwarded", _append(forwarded, _element(peer, scheme, host))),
        (b"X-Forwarded-Prefix", _raw(outer_prefix(known) + prefix)),
        (b"X-Original-URL", sent(b"x-original-url", b"")),
        (b"X-Rewrite-URL", sent(b"x-rewrite-url", b"")),
    )
    return b"".join([b"%b: %b\r\n" % pair for pair in values if pair[1]])


def _client_port(known: ForwardedFields, port: int, received: bytes) -> int:
    """The port that the client used, where a trusted peer names the host or the scheme; else the gateway's `port`.

    With the gateway's port an application would build addresses that lead past the TLS terminator. `received` is the
    Host, which many terminators pass on as it came.
    """
    host, scheme = (
        known.get(b"x-forwarded-host"),
        known.get(b"x-forwarded-proto", b"").strip().lower().decode("latin-1"),
    )
    if host is None and scheme not in DEFAULT_PORTS:
        return port
    named = received if host is None else host
    stated = named.rpartition(b"]")[2].rpartition(b":")[2] if b":" in named else b""
    if stated.isdigit() and len(stated) < 6 and (host is not None or int(stated) != port):
        return int(stated)
    return DEFAULT_PORTS.get(scheme, port)


def _element(peer: str, scheme: str, host: bytes) -> bytes:
    node = f'"[{peer}]"' if ":" in peer else peer or "unknown"
    quoted = host.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    return b"for=%b;%bproto=%b" % (node.encode(), b'host="%b";' % quoted if host else b"", scheme.encode())


def _append(chain: bytes, item: bytes) -> bytes:
    return chain + b", " + item if chain else item


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
