"""The commented configuration that `tentaculo init` writes: every key, with its meaning, unit and default."""

from __future__ import annotations

from pathlib import Path


def text() -> str:
    """The whole file. `tentaculo.example.toml` at the project's root is the same."""
    return Path(__file__).with_name("starter.toml").read_text(encoding="utf-8")
