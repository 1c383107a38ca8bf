"""The proxies, set up as a competent operator would for a service with one or two replicas.

Each may take 2 s to connect and 10 s for an answer, keeps its connections, and repeats no request that was answered,
nor a POST that was sent. Who checks health does so every 2 s and waits 2 s for the answer, as HAProxy does by default,
and every second once something has changed; three failures and two successes decide. HAProxy also watches its traffic.
nginx has what its free version has: failures of the traffic, three of which take a replica out of use for 10 s.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import traffic
from bench.faults.catalogue import PROBE_INTERVAL
from bench.peers import nginx as plain_nginx
from bench.peers import ours as plain_ours
from bench.peers.peer import ROOT, Command, program

SERVICE = "app"
_OURS = """
[server]
port = {port}

[limits]
connect = 2
first_byte = 10
idle = 10

[services.app]
urls = [{urls}]
routes = [{{ prefix = "/app", hedge = {hedging} }}]
policy = "{policy}"
concurrency = "{concurrency}"
probe = {{ interval = {interval:g}, timeout = 2 }}
breaker = {{ open_for = 0.5 }}
"""
_HAPROXY = """
global
  nbthread 1
defaults
  mode http
  timeout connect 2s
  timeout client 30s
  timeout server 10s
  timeout check 2s
  option forwardfor
  retries 3
  option redispatch 1
  retry-on conn-failure empty-response
frontend front
  bind 127.0.0.1:{port}
  default_backend app
frontend stats
  bind 127.0.0.1:{stats}
  stats enable
  stats uri /stats
backend app
  balance {balance}
  timeout queue 500ms
  http-request disable-l7-retry if METH_POST
  option httpchk GET /health
  http-check expect status 200
  default-server check inter {interval:g}s fastinter 1s fall 3 rise 2 observe layer7 error-limit 10 on-error mark-down
{servers}
"""
_NGINX = """
daemon off;
worker_processes 1;
{user}
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  proxy_http_version 1.1;
  proxy_set_header Connection "";
  proxy_set_header Host $http_host;
  proxy_set_header X-Forwarded-For $remote_addr;
  {zone}
  proxy_connect_timeout 2s;
  proxy_read_timeout 10s;
  upstream app {{
    {balance}
{servers}
    keepalive 64;
  }}
  server {{
    listen 127.0.0.1:{port};
    {limit}
    location / {{ proxy_pass http://app; }}
  }}
}}
"""


@dataclass(frozen=True, slots=True)
class Place:
    """One proxy's place in a rig."""

    port: int
    stats: int
    """Where it may show its state, if not at `port`."""
    replicas: Sequence[int]
    """The replicas' ports; the first is the one that breaks."""
    folder: Path


@dataclass(frozen=True, slots=True)
class FaultPeer:
    """A proxy in this bench."""

    name: str
    title: str
    prepare: Callable[[Place], Command]
    """Writes its configuration and says how to start it."""
    version: Sequence[str]
    is_ill: Callable[[Place], Awaitable[bool]] | None = None
    """Whether it shows that something is wrong with the service; None for one that shows nothing."""
    limits: bool = False
    """Whether it limits what is in flight: only in the row of an overload, the limit fitting that service."""


FEATURES = ("balancing", "hedging", "limit")
"""What can be switched on and off: the choice by load and latency (or in turn), hedges, the limit of concurrency. Retries
have no switch: they have a budget."""
_DEFAULT = frozenset(("balancing", "limit"))


def _ours(features: frozenset[str]) -> Callable[[Place], Command]:
    def prepare(place: Place) -> Command:
        file = place.folder / "tentaculo.toml"
        text = _OURS.format(
            port=place.port,
            interval=PROBE_INTERVAL,
            urls=", ".join(f'"http://127.0.0.1:{port}"' for port in place.replicas),
            hedging=str("hedging" in features).lower(),
            policy="least_requests" if "balancing" in features else "round_robin",
            concurrency="auto" if "limit" in features else "off",
        )
        file.write_text(text, encoding="utf-8")
        return Command(
            [plain_ours.python(), "-m", "tentaculo", "serve", "-c", str(file)],
            {"PYTHONPATH": str(ROOT), "TENTACULO_TOKEN": traffic.TOKEN},
        )

    return prepare


def _haproxy(balance: str, maxconn: str = "") -> Callable[[Place], Command]:
    def prepare(place: Place) -> Command:
        file = place.folder / "haproxy.cfg"
        servers = "\n".join(
            f"  server s{number} 127.0.0.1:{port} on-marked-down shutdown-sessions{maxconn}"
            for number, port in enumerate(place.replicas)
        )
        text = _HAPROXY.format(
            port=place.port, stats=place.stats, balance=balance, servers=servers, interval=PROBE_INTERVAL
        )
        file.write_text(text, encoding="utf-8")
        return Command([program("haproxy"), "-db", "-f", str(file)])

    return prepare


def _nginx(balance: str, zone: str = "", limit: str = "") -> Callable[[Place], Command]:
    def prepare(place: Place) -> Command:
        file = place.folder / "nginx.conf"
        servers = "\n".join(f"    server 127.0.0.1:{port} max_fails=3 fail_timeout=10s;" for port in place.replicas)
        text = _NGINX.format(
            port=place.port,
            folder=place.folder,
            user=plain_nginx.user(),
            balance=balance,
            servers=servers,
            zone=zone,
            limit=limit,
        )
        file.write_text(text, encoding="utf-8")
        error_log = str(place.folder / "error.log")
        return Command([program("nginx"), "-p", str(place.folder), "-e", error_log, "-c", str(file)])

    return prepare


async def _ours_is_ill(place: Place) -> bool:
    answer = json.loads(await _get(place.port, "/vx11/status"))
    # Before the first probe nothing is known, which is not wrong.
    return answer["modules"][SERVICE]["status"] not in ("ok", "unknown")


async def _haproxy_is_ill(place: Place) -> bool:
    lines = (await _get(place.stats, "/stats;csv")).decode().splitlines()
    rows = (line.split(",") for line in lines if line.startswith(f"{SERVICE},s"))
    return any(not row[17].startswith("UP") for row in rows)


async def _get(port: int, path: str) -> bytes:
    """The body of an answer; empty JSON objects and tables are no answer, so whatever fails raises OSError."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        head, _, body = (await reader.read(-1)).partition(b"\r\n\r\n")
    finally:
        writer.close()
    if not head.startswith(b"HTTP/1.1 200"):
        raise OSError(f"{path} answered {head[:60]!r}")
    return body


OURS = FaultPeer(
    "ours", "Tentáculo Link", _ours(_DEFAULT), (plain_ours.python(), "-m", "tentaculo", "--version"), _ours_is_ill
)
PEERS = (
    OURS,
    FaultPeer("haproxy", "HAProxy", _haproxy("roundrobin"), ("haproxy", "-v"), _haproxy_is_ill),
    FaultPeer("nginx", "nginx", _nginx(""), ("nginx", "-v")),
    FaultPeer("haproxy-least", "HAProxy, leastconn", _haproxy("leastconn"), ("haproxy", "-v"), _haproxy_is_ill),
    FaultPeer("nginx-least", "nginx, least_conn", _nginx("least_conn;"), ("nginx", "-v")),
    FaultPeer(
        *("haproxy-limit", "HAProxy, maxconn 32", _haproxy("roundrobin", " maxconn 32"), ("haproxy", "-v")),
        is_ill=_haproxy_is_ill,
        limits=True,
    ),
    FaultPeer(
        *("nginx-limit", "nginx, limit_conn 32"),
        _nginx("", "limit_conn_zone $server_addr zone=all:1m;", "limit_conn all 32;"),
        ("nginx", "-v"),
        limits=True,
    ),
)
BY_NAME = {peer.name: peer for peer in PEERS}


def variants(features: Sequence[str]) -> list[FaultPeer]:
    """Two more of ours: with all of `features`, and without any of them; the others are as by default."""
    return [named(_name(chosen)) for chosen in (_DEFAULT | {*features}, _DEFAULT - {*features})]


def named(name: str) -> FaultPeer:
    """A peer by its name, a variant of ours as well. KeyError for any other."""
    if not name.startswith("ours:"):
        return BY_NAME[name]
    features = frozenset(name.removeprefix("ours:").split("+")) & {*FEATURES}
    title = f"Tentáculo Link with {', '.join(sorted(features)) or 'none of them'}"
    return FaultPeer(name, title, _ours(features), OURS.version, _ours_is_ill)


def _name(features: frozenset[str]) -> str:
    return "ours:" + "+".join(sorted(features))
