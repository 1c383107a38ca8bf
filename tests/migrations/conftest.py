"""Migration tests start from an empty database."""

from __future__ import annotations

import pytest


@pytest.fixture
def url(empty_url: str) -> str:
    """The URL of an empty database of each kind."""
    return empty_url
