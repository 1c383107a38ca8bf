"""The phases of a gateway's life."""

from __future__ import annotations

from enum import Enum


class Phase(Enum):
    """Where the process is in its life."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
