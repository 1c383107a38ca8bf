"""Heartbeat: the service calls, and its silence is what is looked for."""

from __future__ import annotations

from tentaculo.health.probes.attempt import ProbeAttempt, ProbeTarget


async def run(target: ProbeTarget, attempt: ProbeAttempt) -> None:
    """See when the service called last; what it said then is taken for the body of an answer."""
    attempt.is_final = True
    if target.last_heartbeat is None:
        attempt.is_gateway_fault, attempt.problem = True, "it calls by itself, and only the running gateway hears that"
        return
    last = target.last_heartbeat(target.service.name)
    silence = target.service.probe.silence
    if last is None:
        attempt.is_gateway_fault, attempt.problem = True, "waits for its first heartbeat"
        return
    seconds, attempt.body = last
    if seconds < silence:
        attempt.success = f"its last heartbeat came {seconds:.0f} s ago"
    else:
        attempt.problem = f"no heartbeat for {seconds:.0f} s"
