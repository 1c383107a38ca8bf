"""The processor time of what a proxy did."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from bench.bed import Proxy
from bench.measure import _cpu


def test_the_start_of_a_load_is_no_time_in_which_the_proxy_worked() -> None:
    used = iter([1.0, 1.5])
    proxy = cast(Proxy, SimpleNamespace(process=object(), cpu_seconds=lambda: next(used)))
    values: dict[str, float] = {}
    with _cpu(proxy, values):
        values |= {"messages": 100.0, "took": 2.0}
    assert values == {"messages": 100.0, "busy": pytest.approx(25), "cpu_us": pytest.approx(2500)}
