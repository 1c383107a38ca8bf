"""Write every file that is made of the declarations of the configuration keys, limits and headers: `make docs`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tentaculo.config.environment import variable_name
from tentaculo.config.key_reference import ANY, SCHEMA_FILE, Key, KeyKind, example_text, json_schema_text, walk
from tentaculo.events.schemas import DEPTH
from tentaculo.net import header_fields
from tentaculo.net.http1 import MAX_CHUNK_LINE, MAX_TRAILERS
from tentaculo.net.resolving import LOOKUPS, LOOKUPS_OF_SLOW, SLOW
from tentaculo.net.tcp import COUNT, IDLE, INTERVAL
from tentaculo.net.turns import READ_SIZE
from tentaculo.proxy.address_mapping import MOST_REFERENCES
from tentaculo.security.sessions import IDLE as IDLE_SESSION
from tentaculo.security.sessions import LIFETIME
from tentaculo.security.sign_in import MOST_ADDRESSES, MOST_FAILURES, REGAINED
from tentaculo.security.tickets import MOST_HELD
from tentaculo.server.aiohttp_handler import MAX_FIELDS, READ_AHEAD
from tentaculo.server.connection import LINGER, MOST_DROPPED
from tentaculo.server.listeners import MOST_LINGERING
from tentaculo.server.query_parameters import MOST_PARAMETERS
from tentaculo.server.request_receiver import CHUNK_COST, MAX_CHUNK_EXCESS
from tentaculo.store.sessions import MOST_SESSIONS
from tentaculo.upstream.connection import MAX_IDLE, MAX_IDLE_UNSAFE
from tentaculo.upstream.response_reader import INTERIM_COST, MAX_INTERIM

ROOT = Path(__file__).resolve().parents[1]
CONFIGURATION = ROOT / "docs" / "configuration.md"
LIMITS = ROOT / "docs" / "limits.md"
HEADERS = ROOT / "docs" / "headers.md"
_TITLES = {
    ("services",): "### `[services.<name>]`",
    ("services", ANY, "routes"): "### `routes` of a service",
    ("services", ANY, "routes", ANY, "rotation"): "### `rotation` of a route",
    ("services", ANY, "routes", ANY, "rotation", "targets"): "### `targets` of a rotation",
    ("services", ANY, "routes", ANY, "limits"): "### `limits` of a route",
    ("limits", "routes"): "### `[[limits.routes]]`",
    ("limits", "own_paths"): "### `[[limits.own_paths]]`",
    ("services", ANY, "breaker"): "### `breaker` of a service",
    ("services", ANY, "probe"): "### `probe` of a service",
    ("alerts", "webhooks"): "### `[alerts.webhooks.<name>]`",
    ("maintenance",): "### `[[maintenance]]`",
}


def rendered() -> dict[Path, str]:
    """Every rendered file with the text it should have now."""
    return {
        ROOT / "tentaculo.example.toml": example_text(f"docs/{SCHEMA_FILE}"),
        ROOT / "docs" / SCHEMA_FILE: json_schema_text(),
        CONFIGURATION: _with_tables(CONFIGURATION, keys=_key_tables()),
        HEADERS: _with_tables(
            HEADERS,
            request=header_fields.table(header_fields.REQUEST_FIELDS, "service"),
            response=header_fields.table(header_fields.RESPONSE_FIELDS, "client"),
        ),
        LIMITS: _with_tables(LIMITS, keys=_limit_table(), fixed=_fixed_limit_table()),
    }


def _with_tables(document: Path, **tables: Iterator[str]) -> str:
    """The text of `document` with the lines of each table between the two markers that have its name."""
    text = document.read_text(encoding="utf-8")
    for name, lines in tables.items():
        begin, end = f"<!-- {name}: begin (make docs) -->\n", f"<!-- {name}: end -->\n"
        before, rest = text.split(begin)
        _, after = rest.split(end)
        text = "\n".join((f"{before}{begin}", *lines, f"{end}{after}"))
    return text


def _key_tables() -> Iterator[str]:
    """A heading and a table of keys for each table of the configuration."""
    keys = list(walk())
    for section in (key for key in keys if key.is_section):
        inside = [key for key in keys if _parent(key.path) == section.path]
        yield _TITLES.get(section.path, f"### `[{section.path[0]}]`")
        yield ""
        yield section.description
        yield ""
        yield "| key | meaning, unit, default | environment |"
        yield "|---|---|---|"
        yield from map(_key_row, inside)
        yield ""


def _parent(path: tuple[str, ...]) -> tuple[str, ...]:
    above = path[:-1]
    return above[:-1] if above and above[-1] == ANY else above


def _key_row(key: Key) -> str:
    json = "" if key.kind is KeyKind.SCALAR else " (JSON)"
    path = key.path
    if path[0] == "services" and "routes" in path[:-1]:
        name = "in `…_ROUTES`"
    elif path[0] != "services" and ANY in path:
        name = f"in `{variable_name(*path[: path.index(ANY)])}`"
    else:
        name = f"`{variable_name(*('<NAME>' if step == ANY else step for step in path))}`{json}"
    return f"| `{path[-1]}` | {key.description.replace('|', '/')} | {name} |"


def _limit_table() -> Iterator[str]:
    yield "| key | limit | default | unit | what happens beyond the limit |"
    yield "|---|---|---|---|---|"
    # The table of the limits comes before the limits of [server].
    for key in sorted(walk(), key=lambda key: key.path[0] != "limits"):
        if key.doc.beyond:
            zero = f" ({key.doc.zero})" if key.doc.zero and key.declared.default == 0 else ""
            yield f"| `{'.'.join(key.path)}` | {key.doc.meaning} | {key.default}{zero} | {key.doc.unit} | {key.doc.beyond} |"
    yield ""


def _fixed_limit_table() -> Iterator[str]:
    """The limits that are constants of the code."""
    rows = (
        ("header fields of a request", MAX_FIELDS, "431 `headers_too_large`"),
        ("addresses in one `If` or `Upload-Concat`", MOST_REFERENCES, "431 `headers_too_large`"),
        ("parameters in the query of an own path", MOST_PARAMETERS, "400 `bad_request`"),
        (
            "chunk extensions and trailers of a request",
            f"{MAX_CHUNK_EXCESS} bytes, and {CHUNK_COST} for each byte of payload",
            "400 `bad_request`",
        ),
        (
            "a chunk-size line of a service, with its extensions",
            f"{MAX_CHUNK_LINE} bytes",
            "502, or the response is cut",
        ),
        ("trailers of a service", f"{MAX_TRAILERS} bytes", "the response is cut"),
        (
            "interim (1xx) responses to one request",
            f"{MAX_INTERIM} bytes, and one more for each {INTERIM_COST} bytes of the request",
            "502 `bad_response`",
        ),
        (
            "pipelined requests of one client",
            f"{READ_AHEAD}, and {READ_SIZE} bytes behind it, are read ahead",
            "the gateway reads no more until one of them is served, and serves none while the client reads no response",
        ),
        ("nesting levels of the JSON of an event", DEPTH, "400, or an error frame"),
        ("unused tickets of a process", MOST_HELD, "the oldest one is 401 `auth_required`"),
        (
            "sessions of the status pages",
            f"{MOST_SESSIONS}; {IDLE_SESSION // 3600} hours without use, {LIFETIME // 86400} days in all",
            "the one that was used longest ago ends",
        ),
        (
            "failed attempts to sign in from one address, or network of IPv6 of 64 bits",
            f"{MOST_FAILURES}, then one every {REGAINED:g} seconds; {MOST_ADDRESSES} addresses; one count for all workers",
            "429 with Retry-After",
        ),
        (
            "silence before TCP keepalive probes the peer",
            f"{IDLE} seconds, then {COUNT} probes every {INTERVAL} seconds",
            "the connection ends; a tunnel ends on both sides",
        ),
        (
            "idle time of an upstream connection that is used again",
            f"{MAX_IDLE:g} seconds; {MAX_IDLE_UNSAFE:g} second for a request that cannot be repeated; less or more if the service sends `Keep-Alive: timeout`",
            "the gateway opens a new connection",
        ),
        (
            "DNS lookups at the same time",
            f"{LOOKUPS}, of which {LOOKUPS_OF_SLOW} for names whose last lookup took more than {SLOW:g} second",
            "the next lookup waits",
        ),
        (
            "a refused client that still sends",
            f"{LINGER:g} seconds, {MOST_DROPPED // 2**20} MiB; {MOST_LINGERING} clients over `limits.connections` at once, and a sixteenth of the descriptors",
            "its connection closes",
        ),
    )
    yield "| what | limit | what happens beyond |"
    yield "|---|---|---|"
    yield from (f"| {what} | {limit} | {beyond} |" for what, limit, beyond in rows)
    yield ""


if __name__ == "__main__":
    for path, text in rendered().items():
        path.write_text(text, encoding="utf-8")
