"""Connects the groups of targets with what they learn with."""

from __future__ import annotations

from tentaculo.config.rotation import RotationSettings
from tentaculo.proxy.state import Chooser, Rewards


def learning(settings: RotationSettings) -> tuple[Chooser, Rewards]:
    """What the group of `settings` learns with."""
    # Only a gateway with groups pays for it.
    from tentaculo.insight.rotation import RewardRule, Rotation

    rewards = RewardRule(
        latency_limit=settings.latency_limit,
        latency_weight=settings.latency_weight,
        cost_limit=settings.cost_limit,
        cost_weight=settings.cost_weight,
    )
    return Rotation(len(settings.targets), floor=settings.floor), rewards
