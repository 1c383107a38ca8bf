"""The head that the client gets for an upstream's answer. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from tentaculo.config.types import DEFAULT_PORTS
from tentaculo.model.endpoint import Endpoint
from tentaculo.net.http1 import Framing, Head, field_name, frame_response
from tentaculo.net.response_headers import RESPONSE_SPECIAL, ResponseHeaders
from tentaculo.proxy.route import CompiledRoute, HeaderRules, reverse_path
from tentaculo.security.cors import EXPOSED

_COOKIE_PATH = re.compile(rb"(;[ \t]*path[ \t]*=[ \t]*)([^;]*)", re.IGNORECASE)
_CORS_REPLACED = frozenset(
    (b"access-control-allow-origin", b"access-control-allow-credentials", b"access-control-expose-headers")
)
_ABSOLUTE = re.compile(r"(https?)://([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)


class CachedResponseHead(NamedTuple):
    """The rendered head of a response, and the requests that may reuse it."""

    key: tuple[object, ...]
    """Everything it depends on but the fields themselves and `added`."""
    head: bytes
    """Without the lines that differ with each request, and without the empty line."""
    is_chunked: bool
    keep_alive: bool


def cached_head(
    fields: ResponseHeaders, plan: CompiledRoute, method: str, minor: int, keep_alive: bool, replaces_cors: bool
) -> CachedResponseHead | None:
    """The head that went to a client of this kind for the same `fields`; None where none did."""
    known = fields.relayed if type(fields.relayed) is CachedResponseHead else None
    return known if known is not None and known.key == (plan, method, minor, keep_alive, replaces_cors) else None


_NOT_IN_TRAILERS = frozenset(
    (
        *(b"age", b"authorization", b"cache-control", b"content-encoding", b"content-range", b"cookie", b"expires"),
        *(b"host", b"max-forwards", b"pragma", b"proxy-status", b"retry-after", b"vary"),
    )
)
"""Fields that frame, route or control a message, beside those that are special in a head (RFC 9110 section 6.5.1)."""


def trailer_lines(trailers: Iterable[tuple[bytes, bytes]], rules: HeaderRules | None) -> bytes:
    """The trailer fields that a client may get, as whole lines. `trailers` are (whole line, name); `rules` the route's."""
    lines = []
    for line, name in trailers:
        lower = name.lower().replace(b"_", b"-")
        is_known = lower in RESPONSE_SPECIAL or lower in _NOT_IN_TRAILERS or lower.startswith(b"access-control-")
        if not is_known and not (rules is not None and rules.removes(lower)):
            lines.append(line)
    return b"".join(lines)


class ResponseHeadBuilder:
    """Builds the client's head for one request.

    `added` are whole lines that the gateway sets on each answer (request id, CORS); `scheme` and `host` are the
    client's own view of the gateway, for rewriting `Location`.
    """

    __slots__ = (
        "_added",
        "_host",
        "_keep_alive",
        "_method",
        "_minor",
        "_plan",
        "_replace_cors",
        "_scheme",
        "_via",
        "upstream",
    )

    def __init__(
        self,
        plan: CompiledRoute,
        method: str,
        minor: int,
        *,
        keep_alive: bool,
        added: bytes,
        via: bytes,
        replace_cors: bool,
        scheme: str,
        host: bytes,
    ) -> None:
        self._plan = plan
        self._method = method
        self._minor = minor
        self._keep_alive = keep_alive
        self._added = added
        self._via = via
        self._replace_cors = replace_cors
        self._scheme = scheme
        self._host = host
        self.upstream: Endpoint | None = None
        """Set before the answer arrives: absolute Locations that name it are the gateway's own."""

    @property
    def keep_alive(self) -> bool:
        """Whether the client's connection stays open after this answer."""
        return self._keep_alive

    def interim(self, head: Head) -> bytes:
        """A 1xx head, hop-by-hop fields removed."""
        fields = ResponseHeaders(head.fields)
        return b"HTTP/1.1 %d %b\r\n%b\r\n" % (head.status, head.reason, b"".join(fields.lines))

    def final(self, head: Head, fields: ResponseHeaders, is_unfinished: bool) -> tuple[bytes, bool]:
        """The final head, and whether the body is to be chunked for the client.

        `is_unfinished`: the request is still being sent, so that the connection cannot be used again.
        """
        plan = self._plan
        known = cached_head(
            fields, plan, self._method, self._minor, self._keep_alive and not is_unfinished, self._replace_cors
        )
        if known is None:
            known = self._relay(head, fields, is_unfinished)
            if not (plan.rewrites and fields.locations):  # a rewritten Location depends on the client's host
                fields.relayed = known
        self._keep_alive = known.keep_alive
        rules = plan.response_rules
        added = rules.filter(self._added) if rules else self._added
        return b"%b%b\r\n" % (known.head, added), known.is_chunked

    def _relay(self, head: Head, fields: ResponseHeaders, is_unfinished: bool) -> CachedResponseHead:
        wanted = self._keep_alive and not is_unfinished
        status = head.status
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
            # This answer must name the protocols (RFC 9110 section 15.5.22), and the gateway passes an upgrade on.
            parts.append(b"Connection: Upgrade\r\nUpgrade: %b\r\n" % fields.upgrade)
        parts.append(self._own_lines(head))
        key = (self._plan, self._method, self._minor, wanted, self._replace_cors)
        return CachedResponseHead(key, b"".join(parts), is_chunked, keep_alive)

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
        """The lines that the gateway and the route add to every answer."""
        rules = self._plan.response_rules
        via = b"Via: 1.%d %b\r\n" % (head.minor, self._via) if self._plan.via else b""
        return rules.filter(via) + rules.block if rules else via

    def _pass_fields(self, fields: ResponseHeaders) -> list[bytes]:
        lines = fields.lines
        if self._plan.rewrites and fields.locations:
            lines = lines.copy()
            for position in fields.locations:
                lines[position] = self._rewrite(lines[position])
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

    def _rewrite(self, line: bytes) -> bytes:
        name, _, value = line.partition(b":")
        if name.lower() == b"set-cookie":
            return _COOKIE_PATH.sub(self._cookie_path, line)
        before = value.strip().decode("utf-8", "surrogateescape")
        after = self._location(before)
        return line if after == before else b"%b: %b\r\n" % (name, after.encode("utf-8", "surrogateescape"))

    def _cookie_path(self, match: re.Match[bytes]) -> bytes:
        path = match[2].rstrip().decode("utf-8", "surrogateescape")
        if not path.startswith("/"):
            # Without a path of its own the cookie gets the client's (RFC 6265 section 5.2.4), which is right already.
            return match[0]
        inside = self._plan.route.replacement
        if path.rstrip("/") == inside or (path != "/" and inside.startswith(path.rstrip("/") + "/")):
            # It covers all that this route reaches. Without a slash at the end it covers the prefix itself as well.
            path = self._plan.public_prefix or "/"
        else:
            path = reverse_path(self._plan.route, path)
        return match[1] + path.encode("utf-8", "surrogateescape") + match[2][len(match[2].rstrip()) :]

    def _location(self, location: str) -> str:
        if location.startswith("/") and not location.startswith("//"):
            path = self._public(location)
            # Where a whole prefix falls away, what is left must not turn into the name of another host.
            return "/." + path if path.startswith("//") else path
        match = _ABSOLUTE.fullmatch(location)
        if match is None:
            return location
        scheme, authority, rest = match[1].lower(), match[2], match[3]
        host = self._host.decode("utf-8", "surrogateescape")
        named = _plain(scheme, authority)
        if host and named == _plain(scheme, host):
            # The scheme stays: an upstream that sends the client from http to https means it.
            return f"{match[1]}://{authority}{self._public(rest)}"
        if self._names_upstream(scheme, named):
            return (f"{self._scheme}://{host}" if host else "") + self._public(rest)
        return location

    def _names_upstream(self, scheme: str, named: str) -> bool:
        """Whether an authority is one that the upstream may know itself by: its address, or the Host it is sent."""
        upstream, host = self.upstream, self._plan.host
        if host is not None and named == _plain(scheme, host.decode()):
            return True
        return (
            upstream is not None and named == _plain(scheme, upstream.authority) and upstream.tls == (scheme == "https")
        )

    def _public(self, rest: str) -> str:
        """The client's view of what follows an upstream's authority: path, query and fragment."""
        cut = min((i for i in (rest.find("?"), rest.find("#")) if i >= 0), default=len(rest))
        return reverse_path(self._plan.route, rest[:cut] or "/") + rest[cut:]


def _plain(scheme: str, authority: str) -> str:
    """An authority in the form that compares: in lower case, without the scheme's own port."""
    return authority.lower().removesuffix(f":{DEFAULT_PORTS[scheme]}")
