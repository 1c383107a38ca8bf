"""The types of single values in the configuration.

No message repeats the value it refuses: it may be a token, or an address that holds a password.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence
from datetime import UTC, tzinfo
from functools import lru_cache
from ipaddress import ip_address
from typing import Annotated, Any
from urllib.parse import urlsplit

from tentaculo.config.section import (
    NOT_EMPTY,
    Check,
    Parse,
    Prepare,
    at_least,
    at_most,
    at_most_long,
    more_than,
)

_YEAR = 366 * 24 * 3600
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
# A protocol, perhaps with its version (RFC 9110 section 7.8).
_UPGRADE = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+(?:/[!#$%&'*+.^_`|~0-9A-Za-z-]+)?")
_CARRIES_HTTP = re.compile(r"h2|http|tls", re.IGNORECASE)
_FRAMING_HEADERS = frozenset(
    ("connection", "content-length", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade")
)
_APP_ORIGIN = re.compile(r"(?!https?:)[A-Za-z][A-Za-z0-9+.-]*://[A-Za-z0-9._~-]*(?::[0-9]{1,5})?", re.IGNORECASE)
"""The origin of an app's web view, such as file:// and capacitor://localhost."""
_HASH = re.compile(r"sha256:[0-9a-fA-F]{64}")
_INSTANCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# As SQLAlchemy reads it: a password may contain / and :, but no @.
_DATABASE_SERVER = re.compile(
    r"(?:[^:/]*(?::[^@]*)?@)?(?P<host>\[[^/?]+\]|[^/:?]*)(?::(?P<port>[^/?]*))?(?:/.*|\?.*)?", re.DOTALL
)
_SERVICE_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,62}[A-Za-z0-9])?")
DEFAULT_PORTS = {"http": 80, "https": 443}
"""Port of a URL without one, by scheme."""
_TRUE_WORDS = frozenset({"true", "t", "yes", "y", "on", "1"})
_FALSE_WORDS = frozenset({"false", "f", "no", "n", "off", "0"})
DATABASE_SCHEMES = ("sqlite", "sqlite+pysqlite", "postgresql", "postgres", "postgresql+pg8000")


class Secret:
    """Secret text. repr() and logs do not show it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return "Secret('**********')"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def reveal(self) -> str:
        """The text itself."""
        return self._text


def _as_secret(value: Any) -> Secret:
    if not isinstance(value, str | Secret):
        raise ValueError("must be text")
    return Secret(str(value)) if isinstance(value, str) else value


def _check_prefix(value: str) -> str:
    if not value.startswith("/"):
        raise ValueError("must start with /")
    if any(c in value for c in "?#\\") or any(ord(c) <= 32 or ord(c) == 127 for c in value) or "//" in value:
        raise ValueError("must be a plain path: no query, fragment, backslash, space or empty segment")
    if not value.isascii():
        raise ValueError("must be ASCII, with other characters percent-encoded as they are on the wire")
    if any(segment in (".", "..") for segment in value.split("/")):
        raise ValueError("must not contain dot segments")
    return value if value == "/" else value.rstrip("/")


def _check_route_path(value: str) -> str:
    return value if _check_prefix(value) == value else value.rstrip("/") + "/"


def _check_health_path(value: str) -> str:
    path, mark, query = value.partition("?")
    if any(not 32 < ord(c) < 127 or c == "#" for c in query):
        raise ValueError("has a query with a character that must be percent-encoded")
    plain = _check_prefix(path)
    # Unlike a prefix it is sent as it is: a server distinguishes /dash/ from /dash.
    return (f"{plain}/" if path.endswith("/") and plain != "/" else plain) + mark + query


def _check_header_name(value: str) -> str:
    if not _HEADER_NAME.fullmatch(value):
        raise ValueError("is not a header name")
    if value.lower() in _FRAMING_HEADERS:
        raise ValueError(
            "belongs to the connection, which the gateway manages; the key `host` of a service sets its Host"
        )
    return value


def _check_upgrade(value: str) -> str:
    if not _UPGRADE.fullmatch(value):
        raise ValueError("is not a protocol's name")
    if _CARRIES_HTTP.match(value):
        raise ValueError("carries HTTP again, and would lead past routes and tokens")
    return value.lower()


def _check_header_value(value: str) -> str:
    if any((ord(c) < 32 and c != "\t") or ord(c) == 127 for c in value):
        raise ValueError("must not contain control characters")
    return value


def as_network(value: Any) -> Any:
    """The network that a configuration names. Raises ValueError."""
    if not isinstance(value, str):
        raise ValueError('must be a network in quotes, such as "10.0.0.0/8"')
    try:
        return ipaddress.ip_network(value)
    except ValueError:
        pass
    try:
        network = ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise ValueError("is not an address or a network such as 10.0.0.0/8") from None
    raise ValueError(f"has bits set beyond its mask; the network is {network}")


def is_host(value: str) -> bool:
    """Whether `value` is a host name or an IP address (IPv6 without brackets), without a port."""
    if ":" in value:
        try:
            return ipaddress.ip_address(value).version == 6
        except ValueError:
            return False
    return len(value) <= 253 and _HOST_NAME.fullmatch(value) is not None


def without_escape(host: str) -> str:
    """`host` with the zone of an IPv6 address as the system reads it: in URLs `%25` stands for `%` (RFC 6874)."""
    address, mark, zone = host.partition("%25")
    return f"{address}%{zone}" if mark and zone and ":" in address else host


def split_host_port(value: str) -> tuple[str, int | None]:
    """Take `host`, `host:port`, `[v6]` or `[v6]:port` apart; brackets are removed. Raises ValueError."""
    if value.startswith("["):
        host, bracket, rest = value[1:].partition("]")
        if not bracket or ":" not in host or (rest and not rest.startswith(":")):
            raise ValueError("is not host:port")
        separator, port = rest[:1], rest[1:]
    else:
        host, separator, port = value.partition(":")
    if not is_host(host):
        raise ValueError("is not host:port; an IPv6 address needs brackets")
    host = without_escape(host)
    if not separator:
        return host, None
    if not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ValueError("has no valid port")
    return host, int(port)


def _check_listen_host(value: str) -> str:
    host = value[1:-1] if value.startswith("[") and value.endswith("]") else value
    if not is_host(host):
        raise ValueError("must be an address or a host name, without a port")
    return without_escape(host)


def _check_listen(value: str) -> str:
    try:
        _, port = split_host_port(value)
    except ValueError:
        port = None
    if port is None:
        raise ValueError('must be host:port, such as "127.0.0.1:8000" or "[::1]:8000"')
    return value


def _check_route_host(value: str) -> str:
    try:
        host, port = split_host_port(f"[{value}]" if value.count(":") > 1 and value[0] != "[" else value)
    except ValueError:
        raise ValueError("must be a host name such as api.example.org") from None
    if port is not None:
        raise ValueError("must be a host name without a port")
    host = host.lower().removesuffix(".")
    return f"[{host}]" if ":" in host else host


def _check_host_header(value: str) -> str:
    try:
        split_host_port(value)
    except ValueError:
        raise ValueError("must be a host name, with or without :port") from None
    return value


def _check_address(value: str) -> str:
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        raise ValueError("must be an http:// or https:// address with a valid host and port") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or not is_host(parts.hostname):
        raise ValueError("must be an http:// or https:// address with a host")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not hold a user name or a password; a route's set_headers can send them")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError("must be scheme, host and port only; a route's `to` can add a path")
    if port == 0:
        raise ValueError("has no valid port")
    return value


def _check_origin(value: str) -> str:
    if value.lower() == "null" or _APP_ORIGIN.fullmatch(value) is not None:
        return value.lower()
    scheme, separator, authority = value.lower().partition("://")
    try:
        host, port = split_host_port(authority)
    except ValueError:
        separator = ""
    if not separator or scheme not in DEFAULT_PORTS:
        raise ValueError("must be an origin such as http://localhost:8020, without a path")
    # Browsers leave the scheme's own port out of the Origin header.
    shown = f"[{host}]" if ":" in host else host
    return f"{scheme}://{shown}" if port in (None, DEFAULT_PORTS[scheme]) else f"{scheme}://{shown}:{port}"


def _check_hash(value: str) -> str:
    if not _HASH.fullmatch(value):
        raise ValueError("must be sha256: and 64 hex digits, as `tentaculo token new` makes it; not the token itself")
    return value.lower()


def _check_instance(value: str) -> str:
    if not _INSTANCE.fullmatch(value):
        raise ValueError("is not letters, digits, dots, hyphens and underscores, 64 at most, a letter or digit first")
    return value


def _check_variable(value: str) -> str:
    if not _VARIABLE.fullmatch(value):
        raise ValueError("is not the name of an environment variable")
    return value


def _check_database(value: Secret) -> Secret:
    scheme, separator, rest = value.reveal().partition("://")
    if not separator or scheme not in DATABASE_SCHEMES:
        raise ValueError("must begin with sqlite:/// or postgresql://")
    if scheme.startswith("sqlite") and rest and not rest.startswith(("/", "?")):
        raise ValueError("has two slashes where SQLite needs three: sqlite:///folder/file.db")
    if scheme.startswith("sqlite"):
        path = rest.partition("?")[0]
        if path != "/" and path.endswith("/"):
            raise ValueError("is the address of a folder, not of a file: sqlite:///folder/file.db")
        return value
    server = _DATABASE_SERVER.fullmatch(rest)
    if server is None or "@" in server["host"]:
        raise ValueError("must be postgresql://user:password@host:port/name, with @ in the password written as %40")
    if server["port"] and not _is_port(server["port"]):
        raise ValueError("has no valid port: postgresql://user:password@host:port/name")
    return value


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 6 and 0 < int(text) < 65536


def _check_token(value: Secret) -> Secret:
    if not is_token(value.reveal()):
        raise ValueError("must be visible ASCII characters only")
    return value


def is_token(value: str) -> bool:
    """Whether `value` can stand in a header as a token: visible ASCII, no space; empty counts as one."""
    return all(32 < ord(c) < 127 for c in value)


def is_service_name(value: str) -> bool:
    """Whether `value` can name a service or be an alias: letters, digits, _ and -, at most 64."""
    return _SERVICE_NAME.fullmatch(value) is not None


def parse_flag(text: str) -> bool:
    """The flag for a word of an environment variable, in upper or lower case. Raises ValueError for an unknown word."""
    word = text.lower()
    if word in _TRUE_WORDS:
        return True
    if word in _FALSE_WORDS:
        return False
    raise ValueError("must be true or false (or 1, yes, y, t, on, 0, no, n, f, off)")


def time_zone(name: str) -> tzinfo:
    """The zone called `name`. Raises ValueError, OSError or LookupError where there is none."""
    if name == "UTC":
        return UTC
    from zoneinfo import ZoneInfo  # 0.3 MB, needed for other zones only

    return ZoneInfo(name)


def _check_time_zone(value: str) -> str:
    try:
        time_zone(value)
    # A key may be no name at all, a directory, or lead outside the data.
    except (ValueError, OSError, LookupError):
        from zoneinfo import available_timezones

        if not available_timezones():
            raise ValueError(
                "cannot be found, as this system has no time zones; the package tzdata brings them (pip install tzdata)"
            ) from None
        raise ValueError('is not a time zone such as "UTC" or "Europe/Madrid"') from None
    return value


def _check_line(value: str) -> str:
    if not value.strip() or not value.isprintable():
        raise ValueError("must be a line of text")
    return value


def _check_page_address(value: str) -> str:
    try:
        parts = urlsplit(value)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address or not value.isprintable() or " " in value:
        raise ValueError("must be an http:// or https:// address of a page")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not hold a user name or a password: everybody who may open the page sees it")
    return value


def _as_tuple(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


Seconds = Annotated[float, more_than(0), at_most(_YEAR)]
Share = Annotated[float, at_least(0), at_most(1)]
Pause = Annotated[float, at_least(0), at_most(_YEAR)]
Bytes = Annotated[int, at_least(0)]
Port = Annotated[int, at_least(0), at_most(65535)]
PathPrefix = Annotated[str, Check(_check_prefix, {"pattern": "^/"})]
RoutePath = Annotated[str, Check(_check_route_path, {"pattern": "^/"})]
HealthPaths = Annotated[
    tuple[Annotated[str, Check(_check_health_path, {"pattern": "^/"})], ...],
    Prepare(_as_tuple, {"type": "string", "pattern": "^/"}),
    NOT_EMPTY,
]
HeaderName = Annotated[str, Check(_check_header_name, {"pattern": f"^{_HEADER_NAME.pattern}$"})]
HeaderValue = Annotated[str, Check(_check_header_value)]
Upgrade = Annotated[str, Check(_check_upgrade)]
HostHeader = Annotated[str, Check(_check_host_header)]
RouteHost = Annotated[str, Check(_check_route_host)]
ListenHost = Annotated[str, Check(_check_listen_host)]
Listen = Annotated[str, Check(_check_listen)]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
TrustedNetwork = Annotated[Network, Parse(as_network, {"type": "string"})]
Origin = Annotated[str, Check(_check_origin, {"pattern": "^([Nn][Uu][Ll][Ll]$|[A-Za-z][A-Za-z0-9+.-]*://)"})]
HttpAddress = Annotated[str, Check(_check_address, {"pattern": "^https?://"})]
TokenHash = Annotated[str, Check(_check_hash, {"pattern": f"^{_HASH.pattern}$"})]
AnySecret = Annotated[Secret, Parse(_as_secret, {"type": "string"})]
Token = Annotated[AnySecret, Check(_check_token)]
DatabaseUrl = Annotated[AnySecret, Check(_check_database)]
InstanceName = Annotated[str, Check(_check_instance, {"pattern": f"^{_INSTANCE.pattern}$"})]
TimeZoneName = Annotated[str, Check(_check_time_zone)]
Line = Annotated[str, Check(_check_line)]
"""One line of printable text, which has no control and no direction characters."""
PageAddress = Annotated[str, at_most_long(2000), Check(_check_page_address, {"pattern": "^https?://"})]
VariableName = Annotated[str, Check(_check_variable, {"pattern": f"^{_VARIABLE.pattern}$"})]


def trusted_proxy_matcher(networks: Sequence[Network]) -> Callable[[str], bool]:
    """A function that returns whether a peer's address is in one of `networks`; it caches the last thousand results."""
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
