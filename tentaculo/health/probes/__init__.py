"""The kinds of probes, by name.

A kind is one function with one signature: it asks once and writes into the attempt what came of it. It may raise
whatever a network does: the prober turns that into words, keeps the time, and judges.
"""

from __future__ import annotations

from tentaculo.health.probes import heartbeat, http, tcp, tls, websocket
from tentaculo.health.probes.attempt import ProbeFunction

KINDS: dict[str, ProbeFunction] = {
    "http": http.run,
    "websocket": websocket.run,
    "tls": tls.run,
    "tcp": tcp.run,
    "heartbeat": heartbeat.run,
}
"""A new kind is a function here, and its name in `config/probes.py`."""
