from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tentaculo.cli.truth.compose_variables import ComposeError, read_env_file, substitute

VARIABLES = {"A": "1", "EMPTY": "", "PATH_1": "/x"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", ""),
        ("$A", "1"),
        ("$A-$PATH_1.$B!", "1-/x.!"),
        ("${A}0", "10"),
        ("${EMPTY}", ""),
        ("${B:-2}", "2"),
        ("${A:-2}", "1"),
        ("${EMPTY:-2}", "2"),
        ("${EMPTY-2}", ""),
        ("${B-2}", "2"),
        ("${A:+yes}${B:+yes}${EMPTY:+yes}${EMPTY+set}", "yesset"),
        ("${A:?no}${EMPTY?no}", "1"),
        ("${B:-${C:-${A}}}", "1"),
        ("${B:-a$A}", "a1"),
        ("${A:-${B:?not asked}}", "1"),
        ("$$A $${A} $$$A", "$A ${A} $1"),
        ("$ 5$", "$ 5$"),
        ("{}${B:-{}", "{}{"),
        ("$é", "$é"),
    ],
)
def test_variables(text: str, value: str) -> None:
    assert substitute(text, VARIABLES) == value


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("${B:?must be set}", "the variable B has no value: must be set"),
        ("${B?}", "the variable B has no value$"),
        ("${EMPTY:?}", "the variable EMPTY has no value$"),
        ("x${B:-${C:?no}}", "the variable C has no value: no"),
        ("${B", "has a variable that is not valid"),
        ("${}", "has a variable that is not valid"),
        ("${1}", "has a variable that is not valid"),
        ("${A!}", "has a variable that is not valid"),
        ("${B:-" * 5000, "has a variable that is not valid"),
    ],
)
def test_a_variable_that_is_missing_or_not_valid_is_an_error(text: str, said: str) -> None:
    with pytest.raises(ComposeError, match=said):
        substitute(text, VARIABLES)


@given(st.text(alphabet="${}:-?+$A_\n 'B"))
def test_any_text_has_a_value_or_an_error(text: str) -> None:
    try:
        substitute(text, VARIABLES)
    except ComposeError:
        pass
    read_env_file_or_error(f"A={text}")


def read_env_file_or_error(text: str) -> dict[str, str]:
    try:
        return read_env_file(text, {})
    except ComposeError:
        return {}


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("A=1\nB=2\n", {"A": "1", "B": "2"}),
        ("\n# A=1\n  export B = 2  \nnothing\n=x\n", {"B": "2"}),
        ("A=1 # comment\nB=1#2\nC=# all\n", {"A": "1", "B": "1#2", "C": ""}),
        ("A: 1\nB=\nC=x=y", {"A": "1", "B": "", "C": "x=y"}),
        ('A=\'$B # x\' # y\nB="a\\n\\"b\\$C"\n', {"A": "$B # x", "B": 'a\n"b$C'}),
        ("A='one\ntwo'\nB=3", {"A": "one\ntwo", "B": "3"}),
        ("A='open\nB=3", {"A": "'open", "B": "3"}),
        ("A=1\r\nB=2\r\n", {"A": "1", "B": "2"}),
        ('A=1\nB=${A}2\nC=${SHELL_SAYS}\nD="$A"', {"A": "1", "B": "12", "C": "yes", "D": "1"}),
    ],
)
def test_an_env_file(text: str, values: dict[str, str]) -> None:
    assert read_env_file(text, {"SHELL_SAYS": "yes"}) == values


def test_the_environment_wins_over_the_file() -> None:
    assert read_env_file("A=file\nB=$A", {"A": "shell"})["B"] == "shell"
