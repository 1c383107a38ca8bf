"""Every peer, in the order of the tables."""

from __future__ import annotations

from bench.catalogue import FAN_OUT, INGESTS
from bench.peers import brokers, nginx, others, ours, written
from bench.peers.peer import NODE_PACKAGES, Peer

OURS = "ours"
BASELINE = "baseline"
REFERENCE = "nginx"
SQLITE = "sqlite"
THROUGHPUT = frozenset({"get", "varied", "post", "latency"})
"""Where a variant with or without a log is measured."""
_NO_ROUTES = frozenset({"routes"})
_WHOLE_BODIES = frozenset({"websocket", "sse", "routes", "sockets", "connections", "download", "upload", "latency"})


def peers() -> list[Peer]:
    """Those that the benchmark knows."""
    return [
        Peer(
            "direct",
            "(the upstream itself)",
            None,
            only=frozenset({"get", "varied", "post", "websocket", "sse", "download", "upload"}),
            note="no proxy at all: what the load and the upstream can do on their core",
        ),
        Peer(
            "ours",
            "Tentáculo Link",
            ours.prepare,
            (ours.python(), "-m", "tentaculo", "--version"),
            note="defaults on",
            has_events=True,
        ),
        *_baseline(),
        Peer("ours-no-log", "Tentáculo Link, access log off", ours.prepare_quiet, only=THROUGHPUT, has_events=True),
        Peer("nginx", "nginx", nginx.prepare, ("nginx", "-v"), note="1 worker, no access log"),
        Peer("nginx-log", "nginx, access log on", nginx.prepare_logging, only=THROUGHPUT),
        Peer(
            SQLITE,
            "bare SQLite group commit",
            None,
            only=INGESTS,
            note="one process, no network: BEGIN IMMEDIATE, executemany, COMMIT with synchronous=FULL",
            has_events=True,
        ),
        Peer(
            "nats",
            "nats-server",
            brokers.nats,
            ("nats-server", "--version"),
            only=frozenset({FAN_OUT}),
            note="one core; it stores nothing",
            has_events=True,
            hello=(b"PING\r\n", b"INFO "),
        ),
        Peer(
            "redis",
            "redis-server",
            brokers.redis,
            ("redis-server", "--version"),
            only=frozenset({FAN_OUT}),
            note="publish and subscribe, which stores nothing",
            has_events=True,
            hello=(b"PING\r\n", b"+PONG"),
        ),
        Peer("haproxy", "HAProxy", others.haproxy, ("haproxy", "-v"), note="1 thread"),
        Peer("envoy", "Envoy", others.envoy, ("envoy", "--version"), note="concurrency 1"),
        Peer("traefik", "Traefik", others.traefik, ("traefik", "version"), note="GOMAXPROCS=1"),
        Peer("caddy", "Caddy", others.caddy, ("caddy", "version"), note="GOMAXPROCS=1"),
        Peer("http-proxy", "Node http-proxy", written.http_proxy, _node("http-proxy"), _NO_ROUTES),
        Peer("fastify", "@fastify/http-proxy", written.fastify, _node("@fastify/http-proxy"), _NO_ROUTES),
        Peer(
            "aiohttp",
            "usual aiohttp proxy",
            written.usual_aiohttp,
            _python("aiohttp"),
            _NO_ROUTES,
            note="ClientSession, uvloop, no access log",
        ),
        Peer(
            "fastapi",
            "FastAPI + httpx",
            written.gateway7,
            _python("fastapi"),
            _WHOLE_BODIES,
            note="in the way of the 7.0 gateway: one client, whole bodies, no WebSocket",
        ),
    ]


def _baseline() -> list[Peer]:
    checkout = ours.baseline()
    if checkout is None:
        return []
    title = "Tentáculo Link, the other checkout"
    return [Peer(BASELINE, title, ours.prepare_baseline, note=f"of {checkout.name}", has_events=True)]


def _node(package: str) -> tuple[str, ...]:
    path = NODE_PACKAGES / package / "package.json"
    return ("node", "-p", f"require('{path}').version + ' on Node ' + process.version")


def _python(package: str) -> tuple[str, ...]:
    of_python = "'on Python', sys.version.split()[0]"
    return (
        "python",
        "-c",
        f"import sys; from importlib.metadata import version as v; print(v('{package}'), {of_python})",
    )
