"""HAProxy, Envoy, Traefik and Caddy: one core's worth each, keep-alive to the upstream, forwarded headers set."""

from __future__ import annotations

import json
from typing import Any

from bench import traffic
from bench.peers.peer import Command, Site, program

_HAPROXY = """
global
  nbthread 1
  maxconn 9800
defaults
  mode http
  timeout connect 5s
  timeout client 600s
  timeout server 600s
  timeout tunnel 600s
  http-reuse always
  option forwardfor
  option http-no-delay
frontend front
  bind 127.0.0.1:{port} backlog 4096
  http-request set-header X-Forwarded-Proto http
  http-request set-header X-Forwarded-Host %[req.hdr(Host)]
  http-request set-header X-Request-ID %[uuid()]
  use_backend live if {{ path_beg {prefix}/ }}
  {routes}
  default_backend web
backend web
  server web 127.0.0.1:{web} pool-max-conn 4096
backend live
  server live 127.0.0.1:{live} pool-max-conn 4096
"""
_CADDY = """
{{
  admin off
  auto_https off
  persist_config off
  log {{
    level ERROR
  }}
  servers {{
    protocols h1
  }}
}}
http://:{port} {{
  bind 127.0.0.1
  handle {prefix}/* {{
    reverse_proxy 127.0.0.1:{live} {{
      flush_interval -1
      transport http {{
        keepalive_idle_conns_per_host 4096
      }}
    }}
  }}
{routes}
  handle {{
    reverse_proxy 127.0.0.1:{web} {{
      transport http {{
        keepalive_idle_conns_per_host 4096
      }}
    }}
  }}
}}
"""
_ONE_CORE = {"GOMAXPROCS": "1"}


def haproxy(site: Site) -> Command:
    """One thread; many routes are a map file, as its manual asks."""
    routes = ""
    if site.routes:
        names = site.write("routes.map", "".join(f"{prefix}/ web\n" for prefix in site.prefixes))
        routes = f"use_backend %[path,map_beg({names})] if {{ path,map_beg({names}) -m found }}"
    text = _HAPROXY.format(port=site.port, web=site.web, live=site.live, prefix=traffic.LIVE, routes=routes)
    return Command([program("haproxy"), "-db", "-f", str(site.write("haproxy.cfg", text))])


def envoy(site: Site) -> Command:
    """Concurrency 1; its limits on connections, made for circuit breaking, are out of the way."""
    routes = [(traffic.LIVE + "/", "live"), *((f"{prefix}/", "web") for prefix in site.prefixes), ("/", "web")]
    manager = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "front",
        "use_remote_address": True,
        "stream_idle_timeout": "0s",
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [
                        {"match": {"prefix": prefix}, "route": {"cluster": cluster, "timeout": "0s"}}
                        for prefix, cluster in routes
                    ],
                }
            ]
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
            }
        ],
    }
    listener = {
        "name": "front",
        "address": _address(site.port),
        "tcp_backlog_size": 4096,
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }
    clusters = [_cluster("web", site.web), _cluster("live", site.live)]
    config = {"static_resources": {"listeners": [listener], "clusters": clusters}}
    file = site.write("envoy.json", json.dumps(config, indent=1))
    options = ("--concurrency", "1", "--disable-hot-restart", "--log-level", "error")
    return Command([program("envoy"), *options, "-c", str(file)])


def _cluster(name: str, port: int) -> dict[str, Any]:
    most = 1_000_000
    limits = {"max_connections": most, "max_pending_requests": most, "max_requests": most, "max_retries": most}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "circuit_breakers": {"thresholds": [limits]},
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(port)}}]}],
        },
    }


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def traefik(site: Site) -> Command:
    """The file provider; its access log is off, as it is by default."""
    # It sets the longest rule first by itself.
    rules = {"web": ("PathPrefix(`/`)", "web"), "live": (f"PathPrefix(`{traffic.LIVE}/`)", "live")}
    rules |= {prefix[1:]: (f"PathPrefix(`{prefix}/`)", "web") for prefix in site.prefixes}
    dynamic = {
        "http": {
            "routers": {name: {"rule": rule, "service": service} for name, (rule, service) in rules.items()},
            "services": {
                name: {"loadBalancer": {"servers": [{"url": f"http://127.0.0.1:{port}"}], "serversTransport": "wide"}}
                for name, port in (("web", site.web), ("live", site.live))
            },
            "serversTransports": {"wide": {"maxIdleConnsPerHost": 4096}},
        }
    }
    # JSON is YAML.
    file = site.write("routes.yaml", json.dumps(dynamic, indent=1))
    static = {
        "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
        "entryPoints": {
            "front": {
                "address": f"127.0.0.1:{site.port}",
                "transport": {"respondingTimeouts": {"readTimeout": "0s", "idleTimeout": "600s"}},
            }
        },
        "providers": {"file": {"filename": str(file), "watch": False}},
        "log": {"level": "ERROR"},
    }
    return Command(
        [program("traefik"), f"--configFile={site.write('traefik.yaml', json.dumps(static, indent=1))}"], _ONE_CORE
    )


def caddy(site: Site) -> Command:
    """A Caddyfile without TLS and without the administration's port."""
    routes = "\n".join(
        f"  handle {prefix}/* {{\n    reverse_proxy 127.0.0.1:{site.web}\n  }}" for prefix in site.prefixes
    )
    text = _CADDY.format(port=site.port, web=site.web, live=site.live, prefix=traffic.LIVE, routes=routes)
    file = site.write("Caddyfile", text)
    env = {
        **_ONE_CORE,
        "HOME": str(site.folder),
        "XDG_DATA_HOME": str(site.folder),
        "XDG_CONFIG_HOME": str(site.folder),
    }
    return Command([program("caddy"), "run", "--config", str(file), "--adapter", "caddyfile"], env)
