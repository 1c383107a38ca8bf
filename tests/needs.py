"""What a test needs of the machine: where it is missing the test is skipped by name, and in CI it fails."""

from __future__ import annotations

import os

import pytest


def need(present: object, what: str) -> None:
    """Go on only if `present` is true; `what` names the missing thing, such as `nginx (Debian: nginx-light)`."""
    if present:
        return
    reason = f"{what} is not installed here"
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason}, and CI=true allows no skip for that")
    pytest.skip(reason)
