"""The head that the client gets for an upstream's response. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Set

import msgspec

from tentaculo.model.failure import Failure, UpstreamError
from tentaculo.model.health import Endpoint
from tentaculo.net.header_fields import RESPONSE_NAMES, ResponseHeaders
from tentaculo.net.http1 import Framing, Head, field_name, frame_response
from tentaculo.proxy.address_mapping import MOST_MAPPED, AddressMapping, count_addresses, is_same_for_all
from tentaculo.proxy.client_view import ClientView
from tentaculo.proxy.route import CompiledRoute, HeaderRules
from tentaculo.security.cors import EXPOSED

_CORS_REPLACED = frozenset(
    (b"access-control-allow-origin", b"access-control-allow-credentials", b"access-control-expose-headers")
)


ResponseKey = tuple[object, str, int, bool]
"""What the head of a response depends on beside its fields: the route's identity, the client's method and minor version, and
whether the gateway's own CORS fields stand in place of the service's."""


class CachedResponseHead(msgspec.Struct, frozen=True):
    """The rendered head of a response, and the requests that may reuse it."""

    key: ResponseKey
    """What it depends on beside the fields, `added` and the next one."""
    asked_to_stay: bool
    """Whether the client's connection was to stay open."""
    head: bytes
    """Without the lines that differ with each request, and without the empty line."""
    is_chunked: bool
    keep_alive: bool
    """Whether it stays open."""


_NOT_IN_TRAILERS = frozenset(
    (
        *(
            b"age",
            b"authorization",
            b"cache-control",
            b"content-encoding",
            b"content-range",
            b"content-type",
            b"cookie",
        ),
        *(b"date", b"expires", b"host", b"if-match", b"if-modified-since", b"if-none-match", b"if-range"),
        *(b"if-unmodified-since", b"max-forwards", b"pragma", b"proxy-status", b"range", b"retry-after", b"set-cookie"),
        b"vary",
    )
)
"""Fields that frame, route or control a message, beside those that are special in a head (RFC 9110 section 6.5.1)."""


def may_be_trailer(name: bytes, special: Set[bytes], rules: HeaderRules | None) -> bool:
    """Whether a trailer field passes. `special` are the names that are special in a head, and `rules` the route's."""
    lower = name.lower().replace(b"_", b"-")
    is_known = lower in special or lower in _NOT_IN_TRAILERS or lower.startswith(b"access-control-")
    return not is_known and not (rules is not None and rules.removes(lower))


def trailer_lines(trailers: Iterable[tuple[bytes, bytes]], rules: HeaderRules | None) -> bytes:
    """The trailer fields that a client may get, as whole lines. `trailers` are (whole line, name); `rules` the route's."""
    return b"".join([line for line, name in trailers if may_be_trailer(name, RESPONSE_NAMES, rules)])


class ResponseHeadBuilder:
    """Builds the client's head for one request.

    `added` are whole lines that the gateway sets on each response (request id, CORS); `view` returns the client's view of
    the gateway, which is needed only for fields that carry addresses.
    """

    __slots__ = (
        "_added",
        "_keep_alive",
        "_key",
        "_method",
        "_minor",
        "_plan",
        "_replace_cors",
        "_via",
        "_view",
        "upstream",
    )

    def __init__(
        self,
        plan: CompiledRoute,
        key: ResponseKey,
        *,
        keep_alive: bool,
        added: bytes,
        via: bytes,
        view: Callable[[], ClientView],
    ) -> None:
        self._plan = plan
        self._key = key
        _, self._method, self._minor, self._replace_cors = key
        self._keep_alive = keep_alive
        self._added = added
        self._via = via
        self._view = view
        self.upstream: Endpoint | None = None
        """Set before the response arrives: addresses that name it are mapped."""

    @property
    def keep_alive(self) -> bool:
        """Whether the client's connection stays open after this response."""
        return self._keep_alive

    def interim(self, head: Head) -> bytes:
        """A 1xx head, hop-by-hop fields removed."""
        fields = ResponseHeaders(head.fields)
        return b"HTTP/1.1 %d %b\r\n%b\r\n" % (head.status, head.reason, b"".join(self._mapped(fields)))

    def final(self, head: Head, fields: ResponseHeaders) -> tuple[bytes, bool]:
        """The final head, and whether the body is to be chunked for the client."""
        plan = self._plan
        known = fields.relayed
        is_known = type(known) is CachedResponseHead and known.key == self._key
        if type(known) is not CachedResponseHead or not is_known or known.asked_to_stay is not self._keep_alive:
            known = self._relay(head, fields)
            if all(is_same_for_all(plan, *_parts(fields.lines[i])) for i in fields.addresses or ()):
                fields.relayed = known
        self._keep_alive = known.keep_alive
        rules = plan.response_rules
        added = rules.filter(self._added) if rules else self._added
        return b"%b%b\r\n" % (known.head, added), known.is_chunked

    def _relay(self, head: Head, fields: ResponseHeaders) -> CachedResponseHead:
        wanted, status = self._keep_alive, head.status
        framing, length = frame_response(self._method, status, head.minor, fields.lengths, fields.codings)
        parts = [b"HTTP/1.1 %d %b\r\n" % (status, head.reason)]
        parts += self._pass_fields(fields)
        if self._replace_cors:
            parts.append(self._exposed_line(fields))
        keep_alive = wanted
        is_chunked = False
        if framing is Framing.LENGTH:
            parts.append(b"Content-Length: %d\r\n" % length)
        elif framing is Framing.NONE:
            # HEAD and 304 may say how long the body would be; 204 and 1xx must not (RFC 9110 section 8.6).
            if fields.lengths is not None and fields.codings is None and status != 204:
                parts.append(b"Content-Length: %b\r\n" % fields.lengths[0].partition(b",")[0].rstrip(b" \t"))
        elif self._minor == 1:
            is_chunked = True
            parts.append(b"Transfer-Encoding: chunked\r\n")
        else:
            keep_alive = False
        if not keep_alive:
            parts.append(b"Connection: close\r\n")
        elif self._minor == 0:
            parts.append(b"Connection: keep-alive\r\n")
        if status == 426 and fields.upgrade is not None:
            # This response must name the protocols (RFC 9110 section 15.5.22), and the gateway passes an upgrade on.
            parts.append(b"Connection: Upgrade\r\nUpgrade: %b\r\n" % fields.upgrade)
        if status == 401 and fields.binds_connection:
            # Without it a client does not authenticate its connection through a proxy (RFC 4559 section 6).
            parts.append(b"Connection: Proxy-Support\r\nProxy-Support: Session-Based-Authentication\r\n")
        parts.append(self._own_lines(head))
        return CachedResponseHead(self._key, wanted, b"".join(parts), is_chunked, keep_alive)

    def upgraded(self, head: Head, fields: ResponseHeaders) -> bytes:
        """A 101 head: the connection is about to change its protocol."""
        rules = self._plan.response_rules
        return b"HTTP/1.1 101 %b\r\n%bConnection: Upgrade\r\nUpgrade: %b\r\n%b%b\r\n" % (
            head.reason,
            b"".join(self._pass_fields(fields)),
            fields.upgrade or b"",
            self._own_lines(head),
            rules.filter(self._added) if rules else self._added,
        )

    def _own_lines(self, head: Head) -> bytes:
        """The lines that the gateway and the route add to every response."""
        rules = self._plan.response_rules
        via = b"Via: 1.%d %b\r\n" % (head.minor, self._via) if self._plan.via else b""
        return rules.filter(via) + rules.block if rules else via

    def _pass_fields(self, fields: ResponseHeaders) -> list[bytes]:
        lines = self._mapped(fields)
        rules = self._plan.response_rules
        if rules or self._replace_cors:
            lines = [line for line in lines if not self._is_replaced(field_name(line))]
        return lines

    def _is_replaced(self, name: bytes) -> bool:
        return self._plan.response_rules.removes(name) or (self._replace_cors and name in _CORS_REPLACED)

    def _exposed_line(self, fields: ResponseHeaders) -> bytes:
        """What the page may read of the response: the headers that the service exposes, and the gateway's."""
        values = [
            line.partition(b":")[2].strip()
            for line in fields.lines
            if field_name(line) == b"access-control-expose-headers"
        ]
        exposed = b", ".join([*filter(None, values), EXPOSED.encode()])
        line = b"Access-Control-Expose-Headers: %b\r\n" % exposed
        return self._plan.response_rules.filter(line)

    def _mapped(self, fields: ResponseHeaders) -> list[bytes]:
        """The lines of `fields` with each address as the client must use it.

        Raises `UpstreamError` for more than `MOST_MAPPED` addresses.
        """
        if not fields.addresses:
            return fields.lines
        if sum([count_addresses(*_parts(fields.lines[position])) for position in fields.addresses]) > MOST_MAPPED:
            raise UpstreamError(Failure.RESPONSE_HEAD_TOO_LARGE, f"the head has more than {MOST_MAPPED} addresses")
        mapping = AddressMapping(self._plan, self._view(), self.upstream)
        lines = fields.lines.copy()
        for position in fields.addresses:
            name, value = _parts(lines[position])
            mapped = mapping.to_client(name, value)
            if mapped != value:
                lines[position] = b"%b: %b\r\n" % (lines[position].partition(b":")[0], mapped)
        return lines


def _parts(line: bytes) -> tuple[bytes, bytes]:
    """Name in lower case, and value."""
    name, _, value = line.partition(b":")
    return name.lower(), value.strip()
