"""Frozen values that several packages share, and pure functions of them."""
