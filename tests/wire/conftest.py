"""One service at `/s`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Service = Callable[..., dict[str, dict[str, Any]]]


@pytest.fixture
def service() -> Service:
    """One service at `/s`, open, with its prefix stripped: `service(port, timeout=1)`; keywords are the route's."""

    def service(*ports: int, breaker: dict[str, Any] | None = None, **route: Any) -> dict[str, dict[str, Any]]:
        return {
            "s": {
                "urls": [f"http://127.0.0.1:{port}" for port in ports],
                "routes": [{"prefix": "/s", "strip": True, "auth": "none", **route}],
                "breaker": breaker or {"failures": 1000},
            }
        }

    return service
