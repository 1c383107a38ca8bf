"""Tentáculo Link with its defaults on: token check, request id, metrics, breaker, probes, database, access log."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from bench import traffic
from bench.peers.peer import ROOT, Command, Site

_CONFIG = """
[server]
port = {port}
{log}
[services.web]
url = "http://127.0.0.1:{web}"
health = ["{small}"]
routes = [{routes}]

[services.live]
url = "http://127.0.0.1:{live}"
routes = [{{ prefix = "{prefix}" }}]
"""


def python() -> str:
    """The interpreter that has what the gateway needs: BENCH_PYTHON, else that of .venv, else this one."""
    ours = ROOT / ".venv" / "bin" / "python"
    return os.environ.get("BENCH_PYTHON") or (str(ours) if ours.exists() else sys.executable)


def baseline() -> Path | None:
    """Another checkout of the gateway, in BENCH_BASELINE, to measure beside this one; None if there is none."""
    folder = os.environ.get("BENCH_BASELINE")
    return Path(folder).resolve() if folder else None


def prepare(site: Site, *, access_log: bool = True, checkout: Path = ROOT, more: str = "") -> Command:
    """Write the configuration, with `more` sections, and return the command by which an operator starts it."""
    routes = ["/api", *site.prefixes]
    file = site.write(
        "tentaculo.toml",
        _CONFIG.format(
            port=site.port,
            web=site.web,
            live=site.live,
            small=traffic.SMALL,
            prefix=traffic.LIVE,
            log="" if access_log else "[log]\naccess = false\n",
            routes=", ".join(f'{{ prefix = "{prefix}" }}' for prefix in routes),
        )
        + more,
    )
    return Command(
        [python(), "-m", "tentaculo", "serve", "-c", str(file)],
        {"PYTHONPATH": str(checkout), "TENTACULO_TOKEN": traffic.TOKEN},
    )


def for_listeners(site: Site) -> Command:
    """With room for a thousand listeners at one address."""
    return prepare(site, more="\n[limits]\nsubscribers = 1100\nconnections_per_address = 1200\n")


def prepare_quiet(site: Site) -> Command:
    """Without the access log."""
    return prepare(site, access_log=False)


def prepare_baseline(site: Site) -> Command:
    """The other checkout, with this one's interpreter and packages."""
    checkout = baseline()
    assert checkout is not None
    return prepare(site, checkout=checkout)
