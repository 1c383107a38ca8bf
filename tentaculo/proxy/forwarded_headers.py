"""Where a request came from, said to the upstream: X-Forwarded-*, X-Real-IP, Forwarded (RFC 7239), X-Request-ID.

What an untrusted peer says of this is replaced; what a trusted one says stands, and the peer is added to the chains.
"""

from __future__ import annotations

from functools import lru_cache

ForwardedFields = dict[bytes, bytes]


@lru_cache(maxsize=1024)
def forwarded_lines(peer: str, scheme: str, host: bytes, port: int, prefix: str) -> bytes:
    """The header lines for a peer that is not trusted. They depend on the connection and the route, hence the cache."""
    return trusted_forwarded_lines({}, peer, scheme, host, port, prefix)


def trusted_forwarded_lines(
    known: ForwardedFields, peer: str, scheme: str, host: bytes, port: int, prefix: str
) -> bytes:
    """The header lines for a trusted peer that said `known` (names in lower case)."""
    said = known.get
    chain = said(b"x-forwarded-for", b"")
    forwarded = said(b"forwarded", b"")
    # The last of the chain is what the trusted peer saw itself; those before it are anybody's word.
    client = chain.rpartition(b",")[2].strip() or peer.encode()
    values = (
        (b"X-Forwarded-For", _append(chain, peer.encode())),
        (b"X-Forwarded-Proto", said(b"x-forwarded-proto", scheme.encode())),
        (b"X-Forwarded-Host", said(b"x-forwarded-host", host)),
        (b"X-Forwarded-Port", said(b"x-forwarded-port", b"%d" % port)),
        (b"X-Real-IP", said(b"x-real-ip", client)),
        (b"Forwarded", _append(forwarded, _element(peer, scheme, host))),
        (b"X-Forwarded-Prefix", said(b"x-forwarded-prefix", b"") + _raw(prefix)),
    )
    return b"".join([b"%b: %b\r\n" % pair for pair in values if pair[1]])


def _element(peer: str, scheme: str, host: bytes) -> bytes:
    node = f'"[{peer}]"' if ":" in peer else peer or "unknown"
    quoted = host.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    return b"for=%b;%bproto=%b" % (node.encode(), b'host="%b";' % quoted if host else b"", scheme.encode())


def _append(chain: bytes, item: bytes) -> bytes:
    return chain + b", " + item if chain else item


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
