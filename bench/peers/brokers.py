"""Brokers, which deliver events and store none: NATS and Redis, each on one core."""

from __future__ import annotations

from bench.peers.peer import Command, Site, program


def nats(site: Site) -> Command:
    """nats-server without its store."""
    return Command([program("nats-server"), "-a", "127.0.0.1", "-p", str(site.port)], {"GOMAXPROCS": "1"})


def redis(site: Site) -> Command:
    """redis-server without its files."""
    argv = [program("redis-server"), "--bind", "127.0.0.1", "--port", str(site.port), "--dir", str(site.folder)]
    return Command([*argv, "--save", "", "--appendonly", "no"])
