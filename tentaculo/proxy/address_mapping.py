"""The mapping of addresses in header fields between the client's view of a route and the service's view. Pure.

The client's view is the origin that the client uses, then an outer prefix that a trusted proxy has removed, then the
route's prefix. The service's view is the Host that the service gets, then what replaces the route's prefix. One rule
holds for every field (`docs/headers.md` has it for users): an address in the view of the sender is written in the view
of the receiver; an address that is in the view of the receiver already, or names another server, stays as it is.

No step costs more than time in proportion to the length of the value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from tentaculo.config.types import DEFAULT_PORTS
from tentaculo.model.failure import Failure, Problem
from tentaculo.model.health import Endpoint
from tentaculo.net.http1 import check_path, split_path
from tentaculo.proxy.client_view import ClientView, is_within, plain_authority, split_port
from tentaculo.proxy.content_security_policy import has_addresses, map_policy
from tentaculo.proxy.json_value import with_texts
from tentaculo.proxy.route import CompiledRoute

_ABSOLUTE = re.compile(r"(?:(https?):)?//([^/?#]*@)?([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)
_BEFORE_PATH = re.compile(r"(?:[a-z][a-z0-9+.\-]*:)?(//[^/?#]*)?", re.IGNORECASE)
_HOST_AHEAD = re.compile(r"/[\t\r\n]*[/\\]")
"""Browsers take what follows for a host, and skip these control characters (URL standard, "basic URL parser")."""
_REFRESH = re.compile(r"[ \t]*[0-9.]*[ \t]*[;,]?[ \t]*(?:url[ \t]*=[ \t]*)?", re.IGNORECASE)
# A quoted string or an address; a quoted anchor is an address too (RFC 8288 section 3.2). No alternative backtracks.
_LINK = re.compile(r'(;[ \t]*anchor[ \t]*=[ \t]*")([^"\\]*)(")|"(?:[^"\\]|\\.)*"?|(<)([^<>]*)(>)', re.IGNORECASE)
_STRING = re.compile(r'(")([^"]*)"')
_CHALLENGE = re.compile(
    r'(\b(?<!-)(?:(?:resource_metadata|domain)[ \t]*=[ \t]*"|Bearer[ \t]+realm[ \t]*=[ \t]*"(?=https?://)))([^"\\]*)"',
    re.IGNORECASE,
)
_HTMX = ("path", "push", "replace")
_REPORT_URL = re.compile(r'("url"[ \t]*:[ \t]*")([^"\\]*)"')
_SOURCE = re.compile(r"(?:(https?|wss?)://)?([^/*'?#]*[^/*'?#:])(/.*)?", re.IGNORECASE)
# A list in parentheses, with etags in quotation marks, or the resource that the next lists are about.
_IF = re.compile(r'\((?:"[^"]*"?|[^")])*\)?|(<)([^<>]*)(>)')
MOST_REFERENCES = 256
"""Addresses in one field of a request: each takes many times as long as the bytes of a plain field."""
MOST_MAPPED = 1024
"""Addresses in the head of one response. More would keep the event loop for longer than 5 ms."""
_POLICIES = (b"content-security-policy", b"content-security-policy-report-only")
_QUOTED = (b"report-to", b"reporting-endpoints", b"speculation-rules")
_DELIMITERS = {b"link": (b"<", b"anchor"), b"set-cookie": (b";",), b"upload-concat": (b" ",)}
_DELIMITERS |= dict.fromkeys(_QUOTED, (b'"',)) | {b"www-authenticate": (b'"', b" ")}
_DELIMITERS |= dict.fromkeys(_POLICIES, (b" ", b"\t", b";", b","))
"""What stands before each address, or attribute, of a response field that carries several."""
_LOOPBACK = frozenset(("localhost", "127.0.0.1", "[::1]"))
_ANY_ADDRESS = frozenset(("0.0.0.0", "[::]"))  # noqa: S104 - no socket is bound
_FIXED_COOKIE = re.compile(rb"(?i);[ \t]*path[ \t]*=[ \t]*/[ \t]*(?:;|$)")


class AddressMapping:
    """Maps the addresses in the fields of one request and its responses."""

    __slots__ = ("_inside", "_others", "_outside", "_plan", "_public", "_stated", "_upstream", "_view")

    def __init__(self, plan: CompiledRoute, view: ClientView, upstream: Endpoint | None) -> None:
        """`upstream` is the endpoint that responds; a request does not need it."""
        self._plan = plan
        self._view = view
        self._upstream = upstream
        self._others: frozenset[str] | None = None
        self._outside = plan.route.base if not plan.route.exact else ""
        self._inside = plan.route.replacement if not plan.route.exact else ""
        self._public = view.prefix + self._outside
        self._stated = view.prefix + plan.public_prefix
        """What the service gets as X-Forwarded-Prefix: an application that honours it writes public paths itself."""

    # -- from the service to the client ------------------------------------------------------------------------

    def to_client(self, name: bytes, value: bytes) -> bytes:
        """The value of a response field, whose `name` in lower case is in `RESPONSE_FIELDS`, for the client."""
        text = value.decode("utf-8", "surrogateescape")
        return RESPONSE_FIELDS[name](self, text).encode("utf-8", "surrogateescape")

    def path_to_client(self, path: str) -> str:
        """The client's path for a `path` of the service, unchanged where no request could reach it.

        The longest prefix decides what the path is: public already, as the stated prefix says, or the service's own.
        """
        stated, inside = self._stated, self._inside
        if stated and inside and _is_under(path, stated + inside):
            return (self._public + path[len(stated) + len(inside) :]) or "/"
        is_public = stated != "" and _is_under(path, stated)
        if _is_under(path, inside) and not (is_public and len(stated) >= len(inside)):
            return (self._public + path[len(inside) :]) or "/"
        if is_public:
            return path
        # Where the prefix is kept, the other paths of the service are those of the gateway.
        return path if self._plan.rewrites else self._view.prefix + path

    def reference_to_client(self, reference: str) -> str:
        """A URI reference (RFC 3986 section 4.1) of the service for the client."""
        if reference[:1] == "/" and reference[1:2] != "/":
            return self._tail_to_client(reference)
        match = _ABSOLUTE.fullmatch(reference)
        if match is None:
            return reference
        scheme, user, authority, tail = match.groups()
        base = self._base(scheme, authority)
        if base is None:
            return reference
        mapped = self._tail_to_client(tail)
        if not base:
            return _as_path(mapped)
        base = base.replace("//", f"//{user or ''}", 1)
        is_same = base + tail == reference and mapped in (tail, "/" + tail)
        return reference if is_same else base + mapped

    def _tail_to_client(self, tail: str) -> str:
        """Path, query and fragment, where the path is absolute or empty."""
        path, rest = split_path(tail)
        mapped = self.path_to_client(path or "/")
        # Where a whole prefix falls away, what is left must not turn into the name of another host.
        return (mapped if mapped == path else _as_path(mapped)) + rest

    def _base(self, scheme: str | None, authority: str) -> str | None:
        """What stands in place of `scheme://authority`; None for an address that is not of this route."""
        view = self._view
        typed = f"{scheme}://{authority}" if scheme else f"//{authority}"
        public = (f"{view.scheme}://" if scheme else "//") + view.host if view.host else ""
        lower = (scheme or view.scheme).lower()
        if view.host and plain_authority(lower, authority) == plain_authority(lower, view.host):
            # The scheme stays: an application that sends its client from http to https means it. The other way
            # round it does not know of the TLS in front of the gateway.
            return public if lower == "http" and view.scheme == "https" else typed
        if view.received and plain_authority(lower, authority) == plain_authority(lower, view.received):
            return public
        name, port = split_port(authority.lower())
        return public if self._names_service(lower, name, port) else None

    def _names_service(self, scheme: str, name: str, port: str) -> bool:
        """Whether an authority is one by which the service may know itself, or the client's host with its port."""
        upstream, host = self._upstream, self._plan.host
        sent_name, sent_port = split_port(host.decode().lower() if host is not None else "")
        if name == sent_name and (port or DEFAULT_PORTS[scheme]) == (sent_port or DEFAULT_PORTS[scheme]):
            return name != ""
        view = self._view
        client_names = {split_port(view.host.lower())[0], split_port(view.received.lower())[0]}
        if view.scheme == "https" and name in client_names and port in ("80", "443"):
            # The port of one side of the TLS terminator with the scheme of the other.
            return name != ""
        if upstream is None:
            return False
        own = split_port(upstream.authority.lower())[0]
        if not port:
            # The client's host without a port is another server: the client would have named it so.
            return name not in client_names and (name == own or self._names_other(name, str(DEFAULT_PORTS[scheme])))
        names = (own, sent_name, *client_names, *_ANY_ADDRESS)
        is_own = name in names or (name in _LOOPBACK and own in _LOOPBACK)
        return name != "" and ((is_own and port == str(upstream.port)) or self._names_other(name, port))

    def _names_other(self, name: str, port: str) -> bool:
        """Whether another endpoint has this address: a follower may send its client to the leader."""
        if self._others is None:
            others = self._plan.service.upstreams
            self._others = frozenset([f"{split_port(one.authority.lower())[0]}:{one.port}" for one in others])
        return f"{name}:{port}" in self._others

    def refresh(self, value: str) -> str:
        """`5; url=/next`, the address in quotation marks or not (HTML, "shared declarative refresh steps")."""
        match = _REFRESH.match(value)
        assert match is not None
        start = match.end()
        quote = value[start : start + 1]
        if quote not in ("'", '"'):
            address = value[start:].rstrip(" \t")
            return value[:start] + self.reference_to_client(address) + value[start + len(address) :]
        address = value[start + 1 :].partition(quote)[0]
        return value[: start + 1] + self.reference_to_client(address) + value[start + 1 + len(address) :]

    def link(self, value: str) -> str:
        """`</style.css>; rel=preload, ...` (RFC 8288)."""
        return _LINK.sub(self._link_address, value)

    def strings(self, value: str) -> str:
        """Each string of a structured field that has no escapes (RFC 9651 section 3.3.3)."""
        return value if "\\" in value else _STRING.sub(self._string_address, value)

    def challenge(self, value: str) -> str:
        """Where the resource is described (RFC 9728), what a Digest is for, and where a registry's client gets its token."""
        return _CHALLENGE.sub(lambda found: f'{found[1]}{self._references(found[2])}"', value)

    def _references(self, value: str) -> str:
        return " ".join([self.reference_to_client(one) for one in value.split(" ")])

    def _string_address(self, match: re.Match[str]) -> str:
        return match[1] + self.reference_to_client(match[2]) + '"'

    def _link_address(self, match: re.Match[str]) -> str:
        if match[4] is not None:
            return f"<{self.reference_to_client(match[5])}>"
        return match[1] + self.reference_to_client(match[2]) + match[3] if match[1] is not None else match[0]

    def policy(self, value: str) -> str:
        """What a page may load, and where it reports to (CSP Level 3)."""
        return map_policy(value, self._source, self.reference_to_client)

    def _source(self, source: str) -> str:
        """A source of a policy: a host alone stands for all its paths, and so does the host that replaces it."""
        match = _SOURCE.fullmatch(source)
        if match is None:
            return source
        scheme, authority, path = (match[1] or "").lower(), match[2], match[3]
        # A word alone may be a keyword.
        is_host = scheme != "" or "." in authority or ":" in authority
        base = self._base(scheme.replace("ws", "http", 1) or None, authority) if is_host else None
        if not base:
            return source
        if not scheme:
            base = base.removeprefix("//")
        elif scheme[0] == "w":
            base = base.replace("http", "ws", 1)
        mapped = base + (self._tail_to_client(path) if path else "")
        return source if mapped.lower() == source.lower() else mapped

    def report_groups(self, value: str) -> str:
        """The addresses in the JSON of the Reporting API's first version."""
        return _REPORT_URL.sub(self._string_address, value)

    def concatenation(self, value: str) -> str:
        """`final;/files/a /files/b`: the uploads of which another one consists (tus 1.0, "Concatenation")."""
        kind, mark, references = value.partition(";")
        return kind + mark + self._references(references)

    def htmx_location(self, value: str) -> str:
        """A reference, or JSON that has some (htmx)."""
        is_json = value[:1] == "{"
        return with_texts(value, _HTMX, self.reference_to_client) if is_json else self.reference_to_client(value)

    def cookie(self, value: str) -> str:
        """The Path and the Domain of a cookie (RFC 6265)."""
        first, *attributes = value.split(";")
        if first.strip().lower().startswith("__host-"):
            return value  # browsers take such a cookie only with Path=/ and without Domain
        kept = [first]
        for attribute in attributes:
            name, equals, text = attribute.partition("=")
            lower, stripped = name.strip().lower(), text.strip()
            if lower == "domain" and self._is_domain_of_service(stripped):
                continue  # browsers would refuse it; without Domain the cookie is for the client's host
            if lower == "path" and stripped.startswith("/"):
                start = len(text) - len(text.lstrip())
                text = text[:start] + self._cookie_path(stripped) + text[start + len(stripped) :]
            kept.append(name + equals + text)
        return ";".join(kept)

    def _cookie_path(self, path: str) -> str:
        plan, stated, inside = self._plan, self._stated, self._inside
        if not plan.rewrites:
            return path if path == "/" else self.path_to_client(path)
        bare = path.rstrip("/")
        is_public = len(stated) > len(inside) and _is_under(bare, stated)
        if not is_public and (bare == inside or (bare and inside.startswith(bare + "/"))):
            # It covers all that this route reaches. Without a slash at the end it covers the prefix itself as well.
            return self._public or "/"
        return self.path_to_client(path)

    def _is_domain_of_service(self, domain: str) -> bool:
        """Whether a cookie's Domain covers a name of the service, but not the client's name for the gateway."""
        domain = domain.removeprefix(".").lower()
        public = split_port(self._view.host.lower())[0]
        if not domain or not public or is_within(public, domain):
            return False
        plan, upstream = self._plan, self._upstream
        names = [self._view.received, plan.host.decode() if plan.host is not None else ""]
        names += [upstream.authority] if upstream is not None else []
        return any(is_within(split_port(name.lower())[0], domain) for name in names)

    # -- from the client to the service ------------------------------------------------------------------------

    def to_service(self, name: bytes, value: bytes) -> bytes:
        """The value of a request field, whose `name` in lower case is in `REQUEST_FIELDS`, for the service.

        Raises `Problem`: 400 for a Destination or an Upload-Concat that leads outside the route, or would be refused as a
        target; 431 for more than `MOST_REFERENCES`.
        """
        text = value.decode("utf-8", "surrogateescape")
        return REQUEST_FIELDS[name](self, text).encode("utf-8", "surrogateescape")

    def destination(self, value: str) -> str:
        """Where COPY and MOVE write to (RFC 4918 section 10.3)."""
        mapped = self._reference_to_service(value)
        if mapped is None or not self._reaches(mapped):
            raise Problem(Failure.BAD_TARGET, "The Destination leads outside the route.")
        return mapped

    def parts(self, value: str) -> str:
        """As `concatenation`, for the service."""
        kind, mark, references = value.partition(";")
        _check_count("Upload-Concat", references.count(" "))
        return kind + mark + " ".join([self.destination(one) if one else one for one in references.split(" ")])

    def _reaches(self, reference: str) -> bool:
        """Whether the path of a reference in the view of the service is one that the route reaches.

        Whatever host it names: a service knows itself by more names than the gateway does, and many look at the path
        alone. Raises `Problem` for a path that would be refused as a target.
        """
        match = _BEFORE_PATH.match(reference)
        assert match is not None
        path, _ = split_path(reference[match.end() :])
        if match[1] is None and path[:1] != "/":
            check_path("/" + path)
            return True
        check_path(path or "/")
        return not self._plan.route.exact and _is_under(path or "/", self._inside)

    def conditions(self, value: str) -> str:
        """The resources of tagged lists (RFC 4918 section 10.4); lock tokens and etags stay."""
        _check_count("If", value.count("<"))
        return _IF.sub(self._if_address, value)

    def _if_address(self, match: re.Match[str]) -> str:
        if match[1] is None:
            return match[0]
        return f"<{self._reference_to_service(match[2]) or match[2]}>"

    def _reference_to_service(self, reference: str) -> str | None:
        """None for an address that leads outside the route."""
        if reference[:1] == "/" and reference[1:2] != "/":
            return self._tail_to_service(reference)
        match = _ABSOLUTE.fullmatch(reference)
        if match is None:
            return reference
        view = self._view
        scheme, user, authority = (match[1] or view.scheme).lower(), match[2] or "", match[3]
        if plain_authority(scheme, authority) not in (
            plain_authority(scheme, view.host),
            plain_authority(scheme, view.received),
        ):
            return reference
        tail = self._tail_to_service(match[4])
        plan = self._plan
        host = plan.host.decode() if plan.host is not None else view.received
        spoken = "https" if plan.service.upstreams[0].tls else "http"
        if scheme == spoken and plain_authority(scheme, authority) == plain_authority(scheme, host):
            host = authority
        base = (f"{spoken}://" if match[1] else "//") + user + host
        return base + tail if tail is not None else None

    def _tail_to_service(self, tail: str) -> str | None:
        path, rest = split_path(tail)
        path = path or "/"
        check_path(path)
        for prefix in (self._public, self._outside):
            if _is_under(path, prefix):
                return ((self._inside + path[len(prefix) :]) or "/") + rest
        return path + rest if _is_under(path, self._inside) else None


_REFERENCES = (
    *(b"azure-asyncoperation", b"content-location", b"hx-push-url", b"hx-redirect", b"hx-replace-url"),
    *(b"location", b"operation-location", b"service-worker-allowed", b"sourcemap", b"turbolinks-location"),
    *(b"x-inertia-location", b"x-pingback", b"x-pjax-url", b"x-sourcemap", b"x-up-location"),
)
RESPONSE_FIELDS: Mapping[bytes, Callable[[AddressMapping, str], str]] = {
    **dict.fromkeys(_REFERENCES, AddressMapping.reference_to_client),
    **dict.fromkeys(_POLICIES, AddressMapping.policy),
    b"hx-location": AddressMapping.htmx_location,
    b"link": AddressMapping.link,
    b"refresh": AddressMapping.refresh,
    b"report-to": AddressMapping.report_groups,
    b"reporting-endpoints": AddressMapping.strings,
    b"set-cookie": AddressMapping.cookie,
    b"speculation-rules": AddressMapping.strings,
    b"upload-concat": AddressMapping.concatenation,
    b"www-authenticate": AddressMapping.challenge,
}
"""The fields of a response that carry addresses, by name in lower case."""
REQUEST_FIELDS: Mapping[bytes, Callable[[AddressMapping, str], str]] = {
    b"destination": AddressMapping.destination,
    b"if": AddressMapping.conditions,
    b"upload-concat": AddressMapping.parts,
}
"""The fields of a request that do."""


def is_same_for_all(plan: CompiledRoute, name: bytes, value: bytes) -> bool:
    """Whether `value` passes unchanged whichever client gets it, so that the response head can be cached."""
    if plan.rewrites:
        return False
    if name in _POLICIES:
        return not has_addresses(value)
    if name != b"set-cookie":
        return b"/" not in value
    lower = value.lower()
    return b"domain" not in lower and (b"path" not in lower or _FIXED_COOKIE.search(value) is not None)


def count_addresses(name: bytes, value: bytes) -> int:
    """How many addresses the mapping of a response field may have to look at. `name` is in lower case."""
    delimiters = _DELIMITERS.get(name)
    if delimiters is None:
        return 1
    lower = value.lower()
    return 1 + sum([lower.count(delimiter) for delimiter in delimiters])


def _check_count(name: str, count: int) -> None:
    if count > MOST_REFERENCES:
        raise Problem(Failure.HEADERS_TOO_LARGE, f"The field {name} has more than {MOST_REFERENCES} addresses.")


def _is_under(path: str, prefix: str) -> bool:
    """Whether `path` is `prefix`, or `prefix` and further segments."""
    return path.startswith(prefix) and path[len(prefix) : len(prefix) + 1] in ("", "/")


def _as_path(path: str) -> str:
    """`path` such that no reader takes its start for the name of a host."""
    return "/." + path if _HOST_AHEAD.match(path) is not None else path
