"""Faults of `[[maintenance]]` and `[alerts]` that no single value shows, found in the tables as they were read."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tentaculo.config.cross_checks import Table, services_of
from tentaculo.config.errors import ConfigFaults, KeyPath, did_you_mean, dotted
from tentaculo.config.maintenance import EVERY
from tentaculo.config.schema import Config

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def check_duty(data: Table, faults: ConfigFaults) -> None:
    """Note every contradiction in `data` that concerns who is told of what."""
    _check_maintenance(data, faults)
    for place, webhook in webhooks_of(data):
        if ("secrets" in webhook) == ("secrets_file" in webhook):
            faults.add(place, "needs either secrets or secrets_file; `tentaculo alerts secret` makes one")
    alerts = data.get("alerts")
    if isinstance(alerts, dict):
        named = {kind: alerts.get(kind) for kind in ("webhooks", "apprise")}
        channels = {kind: table if isinstance(table, dict) else {} for kind, table in named.items()}
        for name in channels["apprise"]:
            if name in channels["webhooks"]:
                faults.add(("alerts", "apprise", name), f"is taken already by {dotted(('alerts', 'webhooks', name))}")


def webhooks_of(data: Table) -> Iterator[tuple[KeyPath, Table]]:
    """The webhooks that are tables, each with its place."""
    alerts = data.get("alerts")
    webhooks = alerts.get("webhooks") if isinstance(alerts, dict) else None
    if isinstance(webhooks, dict):
        for name, table in webhooks.items():
            if isinstance(table, dict):
                yield ("alerts", "webhooks", str(name)), table


def resolve_secrets(data: Table, folder: Path, faults: ConfigFaults) -> None:
    """Put the keys of every webhook's `secrets_file` into its `secrets`."""
    for place, webhook in webhooks_of(data):
        if not isinstance(webhook.get("secrets_file"), str) or "secrets" in webhook:
            continue
        file = folder / webhook["secrets_file"]
        webhook["secrets_file"] = str(file)
        try:
            lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
        except OSError as error:
            faults.add((*place, "secrets_file"), f"cannot be read: {error.strerror or type(error).__name__}")
        except ValueError:  # not UTF-8, or a path with a zero byte
            faults.add((*place, "secrets_file"), "is not text")
        else:
            webhook["secrets"] = [line for line in lines if line and not line.startswith("#")]


def duty_oddities(config: Config) -> list[str]:
    """What is odd about alerts but no fault, a sentence each."""
    found = []
    for name, webhook in config.alerts.webhooks.items():
        address = urlsplit(webhook.url.reveal())
        if address.scheme == "http" and address.hostname not in _LOOPBACK:
            found.append(f"alerts.webhooks.{name} is not https://: what it is told can be read on the way")
    if (config.alerts.webhooks or config.alerts.apprise) and config.alerts.page is None:
        found.append("alerts.page is not set: what alerts link to can be reached from this machine only")
    if config.alerts.apprise and find_spec("apprise") is None:
        found.append("alerts.apprise needs a package that is not installed: pip install 'tentaculo-link[alerts]'")
    return found


def _check_maintenance(data: Table, faults: ConfigFaults) -> None:
    plans = data.get("maintenance")
    known = {EVERY}
    for name, table in services_of(data):
        aliases = table.get("aliases")
        known |= {name, *(alias for alias in (aliases if isinstance(aliases, list) else []) if isinstance(alias, str))}
    for index, plan in enumerate(plans if isinstance(plans, list) else []):
        if not isinstance(plan, dict):
            continue
        if ("at" in plan) == ("starts" in plan or "ends" in plan):
            faults.add(("maintenance", index), "needs either starts and ends, or at")
        services: Any = plan.get("services")
        for number, name in enumerate(services if isinstance(services, list) else []):
            if isinstance(name, str) and name not in known:
                place: KeyPath = ("maintenance", index, "services", number)
                faults.add(place, f"is not a service{did_you_mean(name, known)}")
