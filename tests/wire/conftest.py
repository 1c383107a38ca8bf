"""One service at `/s`, and a quiet log."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog

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


@pytest.fixture
def only_warnings() -> Iterator[None]:
    """A log without a line for each of thousands of refusals."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    yield
    structlog.reset_defaults()
