"""The page."""

from __future__ import annotations

from math import inf

from bench.faults.options import parse
from bench.faults.run import Results
from bench.faults.table import document


def results() -> Results:
    found = Results()
    for seconds in (1.0, 3.0):
        found.add("crash", "ours", {"detected": 0.1, "failed": 2.0, "hurt": 2.0, "asked": 200.0, "ejected": 0.0})
        found.add("crash", "haproxy", {"detected": seconds, "failed": 20.0, "hurt": 30.0, "asked": 200.0, "shown": inf})
        found.add("errors", "ours", {"failed": 30.0, "asked": 200.0})
        found.add("errors", "haproxy", {"failed": 10.0, "asked": 200.0})
    found.errors["crash nginx"] = "nginx is not installed"
    return found


def test_a_page() -> None:
    page = document(results(), parse(["--rows", "crash,errors", "--peers", "ours,haproxy"]), {"processor": "P"})
    assert "| **Tentáculo Link** | 0.1 | – | – | 2, 1.0% | 2, 1.0% | – | 0.0 |" in page
    assert "| HAProxy | 2.0 (1.0–3.0) | never | – | 20, 10.0% | 30, 15.0% | – | – |" in page
    assert "| crash, one of 2 | **better** | out of use after, failed, failed or late | – | better |" in page
    assert "| 30 % errors, one of 2 | **worse** | – | failed | worse |" in page
    assert "Of 2 rows: better in 1, as good in 0, worse in 1." in page
    assert "crash nginx: nginx is not installed" in page
    assert "A trial" in page


def test_a_whole_run_is_no_trial() -> None:
    assert "trial" not in document(results(), parse([]), {})
