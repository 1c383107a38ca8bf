"""Where a request came from, said to the upstream: X-Forwarded-*, X-Real-IP, Forwarded (RFC 7239), X-Request-ID.

What an untrusted peer says of this is replaced; what a trusted one says stands, and the peer is added to the chains.
"""

from __future__ import annotations

import itertools
import re
import secrets
from collections.abc import Callable, Sequence
from functools import lru_cache
from ipaddress import ip_address

from tentaculo.config.values import Network

Known = dict[bytes, bytes]
_REQUEST_ID = re.compile(rb"[A-Za-z0-9_.:+/=-]{1,128}")


def trust(networks: Sequence[Network]) -> Callable[[str], bool]:
    """A function that says whether a peer's address is in one of `networks`; remembers the last thousand answers."""
    if not networks:
        return lambda peer: False

    @lru_cache(maxsize=1024)
    def is_trusted(peer: str) -> bool:
        try:
            address = ip_address(peer)
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None)
        return any((mapped or address) in network for network in networks)

    return is_trusted


class RequestIds:
    """Ids that tell requests apart in logs: a random start and a counter, so that one costs next to nothing."""

    def __init__(self) -> None:
        self._start = secrets.token_hex(6)
        self._counter = itertools.count(1)

    def __repr__(self) -> str:
        return f"<RequestIds {self._start}>"

    def next(self, known: Known | None) -> str:
        """The id for a request: the one a trusted peer gave (`known`) if it is plain, else a new one."""
        if known is not None:
            given = known.get(b"x-request-id")
            if given is not None and _REQUEST_ID.fullmatch(given):
                return given.decode("ascii")
        return f"{self._start}-{next(self._counter):x}"


@lru_cache(maxsize=1024)
def provenance_lines(peer: str, scheme: str, host: bytes, port: int, prefix: str) -> bytes:
    """The header lines for a peer that is not trusted. They depend on the connection and the route, hence the cache."""
    return trusted_provenance_lines({}, peer, scheme, host, port, prefix)


def trusted_provenance_lines(known: Known, peer: str, scheme: str, host: bytes, port: int, prefix: str) -> bytes:
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
