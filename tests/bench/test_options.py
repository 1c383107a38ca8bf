"""The command line."""

from __future__ import annotations

import os

import pytest

from bench.catalogue import CASES, QUICK
from bench.options import parse

PEERS = ["ours", "nginx", "envoy"]


@pytest.fixture(autouse=True)
def _two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1})


def test_by_default_everything_is_measured_and_published() -> None:
    options = parse([], PEERS)
    assert options.cases == tuple(case.name for case in CASES)
    assert (options.peers, options.is_trial) == (tuple(PEERS), False)


def test_a_choice_keeps_the_catalogues_order() -> None:
    options = parse(["--cases", "post, get", "--peers", "envoy,ours"], PEERS)
    assert (options.cases, options.peers) == (("get", "post"), ("ours", "envoy"))
    assert parse(["--cases", "quick"], PEERS).cases == QUICK


@pytest.mark.parametrize("less", [["--peers", "ours"], ["--rounds", "1"], ["--seconds", "1"]])
def test_less_than_all_is_a_trial(less: list[str]) -> None:
    assert parse(less, PEERS).is_trial


def test_another_checkout_is_a_trial() -> None:
    assert parse([], [*PEERS, "baseline"]).is_trial


def test_one_case_alone_is_none() -> None:
    assert not parse(["--cases", "get"], PEERS).is_trial


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--cases", "speed"], "no such case: speed"),
        (["--peers", "squid"], "no such peer: squid"),
        (["--rounds", "0"], "more than 0"),
        (["--load-core", "7"], "the cores here are [0, 1]"),
    ],
)
def test_wrong_usage(argv: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(argv, PEERS)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
