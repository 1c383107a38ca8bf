"""The command line."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from bench.faults.catalogue import QUICK, ROWS
from bench.faults.options import parse
from bench.faults.peers import Place, named
from tentaculo.config.schema import Config


def test_by_default_everything_is_run_and_published() -> None:
    options = parse([])
    assert options.rows == tuple(row.name for row in ROWS)
    assert [options.rounds_of(row) for row in ("crash", "lies-well", "unequal")] == [3, 6, 2]
    assert [name for name in options.peers if name.startswith("ours")] == [
        *("ours", "ours:balancing+hedging+limit", "ours:"),
    ]
    assert not options.is_trial


@pytest.mark.parametrize(
    "less", [["--rows", "crash"], ["--peers", "ours"], ["--rounds", "1"], ["--features", "limit"], ["--quick"]]
)
def test_less_than_all_is_a_trial(less: list[str]) -> None:
    assert parse(less).is_trial


def test_a_quick_run() -> None:
    options = parse(["--quick"])
    assert (options.rows, options.rounds_of("lies-well"), options.phases("crash", 0)) == (QUICK, 1, (8.0, 8.0))
    assert parse(["--quick", "--rows", "hang,crash"]).rows == ("crash", "hang")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--rows", "flood"], "no such row: flood"),
        (["--peers", "squid"], "no such peer: squid"),
        (["--rounds", "0"], "more than 0"),
        (["--at-once", "0"], "more than 0"),
    ],
)
def test_wrong_usage(argv: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(argv)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_the_fault_lasts_as_long_as_its_row_says() -> None:
    options = parse(["--rounds", "3"])
    assert [options.phases("crash", number) for number in range(3)] == [(12.5, 12.0), (14.5, 12.0), (13.5, 12.0)]
    assert options.phases("unequal", 1) == (10.0, 3.0)


def test_features_are_compared_with_and_without() -> None:
    options = parse(["--peers", "ours,nginx", "--features", "hedging,limit"])
    assert options.peers == ("ours", "nginx", "ours:balancing+hedging+limit", "ours:balancing")
    assert named("ours:balancing").title == "Tentáculo Link with balancing"


def test_a_variant_is_set_up_as_its_name_says(tmp_path: Path) -> None:
    for name, lines in (
        ("ours", ('policy = "least_requests"', "hedge = false", 'concurrency = "auto"')),
        ("ours:hedging", ('policy = "round_robin"', "hedge = true", 'concurrency = "off"')),
    ):
        named(name).prepare(Place(1, 2, [3, 4], tmp_path))
        text = (tmp_path / "tentaculo.toml").read_text("utf-8")
        assert all(line in text for line in lines)
        assert len(Config.of(tomllib.loads(text)).services) == 1
