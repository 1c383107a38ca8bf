"""The head that the client gets for an upstream's answer. Pure."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from tentaculo.model import Upstream
from tentaculo.proxy.headers import ResponseFields, field_name
from tentaculo.proxy.plan import Plan
from tentaculo.proxy.routes import public_path
from tentaculo.proxy.wire import Framing, Head, frame_response

_COOKIE_PATH = re.compile(rb"(;[ \t]*path[ \t]*=[ \t]*)([^;]*)", re.IGNORECASE)
_CORS = b"access-control-"


class ResponseWriter:
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
        plan: Plan,
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
        self.upstream: Upstream | None = None
        """Set before the answer arrives: absolute Locations that name it are the gateway's own."""

    @property
    def keep_alive(self) -> bool:
        """Whether the client's connection stays open after this answer."""
        return self._keep_alive

    def interim(self, head: Head) -> bytes:
        """A 1xx head, hop-by-hop fields removed."""
        fields = ResponseFields(head.fields)
        return b"HTTP/1.1 %d %b\r\n%b\r\n" % (head.status, head.reason, b"".join(fields.lines))

    def final(self, head: Head, fields: ResponseFields, is_whole: bool, is_unfinished: bool) -> tuple[bytes, bool]:
        """The final head, and whether the body is to be chunked for the client.

        `is_whole`: the body has arrived already, so that its length may be known to the caller but is not invented.
        `is_unfinished`: the request is still being sent, so that the connection cannot be used again.
        """
        status = head.status
        framing, length = frame_response(self._method, status, head.minor, fields.lengths, fields.codings)
        parts = [b"HTTP/1.1 %d %b\r\n" % (status, head.reason)]
        parts += self._pass_fields(fields)
        is_chunked = False
        if framing is Framing.LENGTH:
            parts.append(b"Content-Length: %d\r\n" % length)
        elif framing is Framing.NONE:
            # HEAD and 304 may say how long the body would be; 204 and 1xx must not (RFC 9110 section 8.6).
            if fields.lengths is not None and status != 204:
                parts.append(b"Content-Length: %b\r\n" % fields.lengths[0])
        elif self._minor == 1:
            is_chunked = True
            parts.append(b"Transfer-Encoding: chunked\r\n")
        else:
            self._keep_alive = False
        if is_unfinished:
            self._keep_alive = False
        if not self._keep_alive:
            parts.append(b"Connection: close\r\n")
        elif self._minor == 0:
            parts.append(b"Connection: keep-alive\r\n")
        parts += (b"Via: 1.%d %b\r\n" % (head.minor, self._via), self._added, self._plan.response_rules.block, b"\r\n")
        return b"".join(parts), is_chunked

    def upgraded(self, head: Head, fields: ResponseFields) -> bytes:
        """A 101 head: the connection is about to change its protocol."""
        upgrade = fields.upgrade or b""
        lines = b"".join(self._pass_fields(fields))
        return b"HTTP/1.1 101 %b\r\n%bConnection: Upgrade\r\nUpgrade: %b\r\nVia: 1.%d %b\r\n%b%b\r\n" % (
            head.reason,
            lines,
            upgrade,
            head.minor,
            self._via,
            self._added,
            self._plan.response_rules.block,
        )

    def _pass_fields(self, fields: ResponseFields) -> list[bytes]:
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
        return self._plan.response_rules.removes(name) or (self._replace_cors and name.startswith(_CORS))

    def _rewrite(self, line: bytes) -> bytes:
        name, _, value = line.partition(b":")
        if name.lower() == b"set-cookie":
            return _COOKIE_PATH.sub(self._cookie_path, line, count=1)
        location = value.strip().decode("utf-8", "surrogateescape")
        return b"%b: %b\r\n" % (name, self._location(location).encode("utf-8", "surrogateescape"))

    def _cookie_path(self, match: re.Match[bytes]) -> bytes:
        path = match[2].strip().decode("utf-8", "surrogateescape")
        if path == "/" and not self._plan.route.replacement:
            path = self._plan.public_prefix + "/"
        else:
            path = public_path(self._plan.route, path)
        return match[1] + path.encode("utf-8", "surrogateescape").rstrip(b"\r\n") + match[2][len(match[2].rstrip()) :]

    def _location(self, location: str) -> str:
        if location.startswith("//"):
            return location
        if location.startswith("/"):
            path, mark, rest = _split_path(location)
            return public_path(self._plan.route, path) + mark + rest
        try:
            parts = urlsplit(location)
        except ValueError:
            return location
        ours = [self._host.decode("utf-8", "surrogateescape")]
        if self.upstream is not None:
            ours += [self.upstream.authority, self.upstream.host]
        if parts.scheme not in ("http", "https") or parts.netloc not in ours:
            return location
        path, mark, rest = _split_path(location[len(parts.scheme) + 3 + len(parts.netloc) :])
        return f"{self._scheme}://{ours[0]}{public_path(self._plan.route, path or '/')}{mark}{rest}"


def _split_path(location: str) -> tuple[str, str, str]:
    cut = min((i for i in (location.find("?"), location.find("#")) if i >= 0), default=len(location))
    return location[:cut], location[cut : cut + 1], location[cut + 1 :]
