"""The command line."""

from __future__ import annotations

import pytest

from bench.faults.catalogue import LASTS, QUICK, ROWS
from bench.faults.options import parse


def test_by_default_everything_is_run_and_published() -> None:
    options = parse([])
    assert options.rows == tuple(row.name for row in ROWS)
    assert options.lasts == LASTS
    assert not options.is_trial


@pytest.mark.parametrize("less", [["--rows", "crash"], ["--peers", "ours"], ["--rounds", "1"], ["--quick"]])
def test_less_than_all_is_a_trial(less: list[str]) -> None:
    assert parse(less).is_trial


def test_a_quick_run() -> None:
    options = parse(["--quick"])
    assert (options.rows, len(options.lasts)) == (QUICK, 1)
    assert parse(["--quick", "--rows", "hang,crash"]).rows == ("crash", "hang")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--rows", "flood"], "no such row: flood"),
        (["--peers", "squid"], "no such peer: squid"),
        (["--rounds", "0"], "more than 0"),
    ],
)
def test_wrong_usage(argv: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(argv)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
