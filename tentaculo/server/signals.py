"""Signals of a process that serves: the gateway's and the supervisor's."""

from __future__ import annotations

import signal

import structlog

log = structlog.get_logger(__name__)

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def ignore_hangup() -> None:
    """SIGHUP, of a terminal that closes or of `systemctl reload`, changes nothing."""
    log.info("hangup ignored", hint="A changed configuration needs a restart.")
