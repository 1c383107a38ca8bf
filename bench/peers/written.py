"""Proxies that people write: Node's two, the usual aiohttp one, and FastAPI with httpx."""

from __future__ import annotations

import sys

from bench.peers.peer import NODE_PACKAGES, ROOT, Command, Site, program

_PROGRAMS = ROOT / "bench" / "programs"


def http_proxy(site: Site) -> Command:
    """Node's http-proxy with a keep-alive agent."""
    return _node("http-proxy.cjs", site)


def fastify(site: Site) -> Command:
    """@fastify/http-proxy."""
    return _node("fastify-proxy.cjs", site)


def usual_aiohttp(site: Site) -> Command:
    """aiohttp's server and ClientSession on uvloop."""
    return _python("usual", site)


def gateway7(site: Site) -> Command:
    """FastAPI and httpx in the way of the 7.0 gateway."""
    return _python("gateway7", site)


def _node(file: str, site: Site) -> Command:
    argv = [program("node"), str(_PROGRAMS / file), *_ports(site)]
    return Command(argv, {"NODE_PATH": str(NODE_PACKAGES), "NODE_ENV": "production"})


def _python(name: str, site: Site) -> Command:
    return Command([sys.executable, "-m", f"bench.programs.{name}", *_ports(site)], {"PYTHONPATH": str(ROOT)})


def _ports(site: Site) -> tuple[str, str, str]:
    return str(site.port), str(site.web), str(site.live)
