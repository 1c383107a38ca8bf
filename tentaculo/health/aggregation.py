"""The health of a service from those of its endpoints. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from tentaculo.health.passive import Finding
from tentaculo.model.health import Health

NOT_PROBED = Finding(Health.UNKNOWN, "not probed yet")


def aggregate(findings: Sequence[Finding | None]) -> Finding:
    """One health and its reason from the finding of each endpoint, None for an endpoint without a probe yet.

    A service is down when all its endpoints are down, and degraded when only some are up. While no endpoint is healthy
    and not all are known, the service is unknown.
    """
    known = [finding for finding in findings if finding is not None]
    if not known:
        return NOT_PROBED
    total = len(findings)
    if total == 1:
        return known[0]
    up, weak, down = (
        [finding for finding in known if finding.health is health]
        for health in (Health.UP, Health.DEGRADED, Health.DOWN)
    )
    if len(down) == total:
        return Finding(Health.DOWN, f"all {total} addresses are down: {down[0].reason}")
    faults = [
        f"{_addresses(len(found), total)} {word}: {found[0].reason}"
        for word, found in (("down", down), ("degraded", weak))
        if found
    ]
    if not up and not weak:
        return Finding(Health.UNKNOWN, "; ".join([*faults, "the others are not known yet"]))
    if faults:
        return Finding(Health.DEGRADED, "; ".join(faults))
    if len(up) < total:
        return Finding(Health.UP, f"{_addresses(len(up), total)} up, the others are not known yet")
    return Finding(Health.UP, f"all {total} addresses are up")


def _addresses(count: int, total: int) -> str:
    return f"{count} of {total} addresses {'is' if count == 1 else 'are'}"
