"""From data to values of a form: what each kind of form takes and keeps, and the sentence for everything else."""

from __future__ import annotations

import pickle
import re
from datetime import date
from ipaddress import IPv4Network
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tentaculo.config.errors import ConfigError
from tentaculo.config.reader import REFUSED, EnvironmentText, read, reader_for
from tentaculo.config.section import (
    INTERNAL,
    NOT_EMPTY,
    UNSET,
    Check,
    Doc,
    Parse,
    Prepare,
    Section,
    at_least,
    at_most,
    at_most_long,
    keys_of,
    more_than,
)
from tentaculo.config.types import AnySecret, Secret
from tests.config.test_any_input import VALUES

TEXT = "must be text"
NUMBER = "must be a number"
WHOLE = "must be a whole number"
FLAG = "must be true or false, without quotes"
LIST = "must be a list"
TABLE = "must be a table"
INFINITY = float("inf")
NAN = float("nan")


def shout(value: str) -> str:
    if value == "quiet":
        raise ValueError("must be loud")
    return value.upper()


def wrap(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class Wheel(Section, frozen=True):
    size: Annotated[int, at_least(1), Doc("Size.", unit="inches")]
    spokes: Annotated[int, Doc("Number of spokes.")] = 36


class Bicycle(Section, frozen=True):
    wheels: Annotated[tuple[Wheel, ...], Doc("Wheels.")]
    front: Annotated[Wheel | None, Doc("Front wheel.")] = None
    low: Annotated[float, Doc("Lowest gear.")] = 1
    high: Annotated[float, Doc("Highest gear.")] = 9
    names: Annotated[dict[str, Wheel], Doc("Wheels by name.")] = {}
    owner: Annotated[str, INTERNAL] = "nobody yet"

    def check(self) -> None:
        if self.low > self.high:
            raise ValueError("has low above high")


def told(form: Any, data: object) -> list[tuple[tuple[str | int, ...], str]]:
    """The faults of what is refused."""
    faults: list[tuple[tuple[str | int, ...], str]] = []
    assert reader_for(form)(data, ("here",), lambda place, message: faults.append((place, message))) is REFUSED
    return faults


def kept(form: Any, data: object) -> Any:
    faults: list[Any] = []
    value = reader_for(form)(data, (), lambda *fault: faults.append(fault))
    assert faults == []
    return value


E = EnvironmentText


@pytest.mark.parametrize(
    ("form", "data", "value"),
    [
        (str, "", ""),
        (str, E("a"), "a"),
        (int, 7, 7),
        (int, -7.0, -7),
        (int, 10**400, 10**400),
        (int, E("7"), 7),
        (int, E("+7"), 7),
        (int, E("-7.00"), -7),
        (int, E("8_000"), 8000),
        (float, 7, 7.0),
        (float, 0.5, 0.5),
        (float, E("5e-1"), 0.5),
        (bool, True, True),
        (bool, False, False),
        *((bool, E(word), True) for word in ("true", "T", "yes", "Y", "on", "1")),
        *((bool, E(word), False) for word in ("False", "f", "NO", "n", "off", "0")),
        (Path, "a/b", Path("a/b")),
        (Path, Path("a"), Path("a")),
        (Path, "\udce9", Path("\udce9")),
        (AnySecret, "a", Secret("a")),
        (AnySecret, Secret("a"), Secret("a")),
        (Literal["a", "b"], "b", "b"),
        (int | None, None, None),
        (int | None, 7, 7),
        (tuple[int, ...], [], ()),
        (tuple[int, ...], (1, 2), (1, 2)),
        (dict[str, int], {"a": 1}, {"a": 1}),
        (dict[Annotated[str, Check(shout)], int], {"a": 1}, {"A": 1}),
        (Annotated[int, at_least(1), at_most(2)], 1, 1),
        (Annotated[int, at_least(1), at_most(2)], 2, 2),
        (Annotated[float, more_than(0)], 0.001, 0.001),
        (Annotated[str, NOT_EMPTY, at_most_long(2)], "ab", "ab"),
        (Annotated[str, "words", Check(shout), at_most_long(2)], "ab", "AB"),
        (Annotated[tuple[str, ...], Prepare(wrap)], "a", ("a",)),
        (Annotated[object, Parse(repr)], 7, "7"),
        (Annotated[object, Parse(repr), Check(shout)], None, "NONE"),
        (Wheel, {"size": 28}, Wheel(size=28)),
        (Wheel, Wheel(size=0), Wheel(size=0)),
        (Wheel | None, {"size": 28, "spokes": 3}, Wheel(size=28, spokes=3)),
    ],
    ids=lambda value: re.sub(" at 0x[0-9a-f]+", "", repr(value)),
)
def test_what_is_taken_and_how_it_is_kept(form: Any, data: object, value: object) -> None:
    found = kept(form, data)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("form", "message", "wrong"),
    [
        (str, TEXT, [7, True, None, [], {}, b"a", "\ud800"]),
        (int, NUMBER, ["7", "", True]),
        (int, WHOLE, [0.5, INFINITY, NAN, None, [], {}, date(2025, 12, 16)]),
        (int, WHOLE, map(E, ["", "x", "7.5", "8000.", "1e3", "0x10", "1__0", "٣", "nan", "9" * 5000])),
        (float, NUMBER, ["7", True, None, [], {}, date(2025, 12, 16), 10**400, E("x"), E(""), E("٣")]),
        (bool, FLAG, ["true", 1, 0, None, []]),
        (bool, "must be true or false (or 1, yes, y, t, on, 0, no, n, f, off)", map(E, ["", "2", "perhaps", "\udce9"])),
        (Path, TEXT, [7, None, []]),
        (AnySecret, TEXT, [7, None, []]),
        (Literal["a", "b", "c"], "must be one of 'a', 'b' or 'c'", ["", "A", None, [], 1, E("d")]),
        (int | None, WHOLE, [0.5]),
        (tuple[int, ...], LIST, ["ab", {}, None, 7]),
        (dict[str, int], TABLE, [[], "a", None, 7]),
        (Wheel, TABLE, [[], "a", None, 7, Bicycle(wheels=())]),
        (Annotated[int, at_least(1)], "must be at least 1", [0, -(10**400)]),
        (Annotated[int, at_most(1_000_000)], "must be at most 1000000", [1_000_001, 10**400]),
        (Annotated[float, more_than(0), at_most(0.5)], "must be more than 0", [0, -INFINITY, NAN, E("nan")]),
        (Annotated[float, more_than(0), at_most(0.5)], "must be at most 0.5", [1, INFINITY, E("inf")]),
        (Annotated[str, NOT_EMPTY, at_most_long(2)], "must not be empty", [""]),
        (Annotated[str, NOT_EMPTY, at_most_long(2)], "has more than 2 characters", ["abc"]),
        (Annotated[tuple[int, ...], NOT_EMPTY], "must not be empty", [[]]),
        (Annotated[str, Check(shout)], "must be loud", ["quiet"]),
        (Annotated[str, Check(shout)], TEXT, [7]),
        (Annotated[tuple[str, ...], Prepare(wrap)], LIST, [7]),
        (
            Annotated[IPv4Network, Parse(IPv4Network)] | None,
            "Octet 300 (> 255) not permitted in '300.0.0.0'",
            ["300.0.0.0"],
        ),
    ],
    ids=lambda value: re.sub(" at 0x[0-9a-f]+", "", repr(value)),
)
def test_what_is_refused_and_in_which_words(form: Any, message: str, wrong: Any) -> None:
    for data in wrong:
        assert told(form, data) == [(("here",), message)], data


def test_an_unsupported_type_is_an_error_when_its_reader_is_made() -> None:
    for form in (bytes, list[int], tuple[int, str], int | str, set[int]):
        with pytest.raises(TypeError, match="is not a supported type of a configuration key"):
            reader_for(form)


def test_every_fault_at_once_each_at_its_place() -> None:
    data = {
        "wheels": [{"size": 0}, 7, {"spokes": "x"}, {"size": 28}],
        "front": {"sise": 28},
        "low": "1",
        "names": {"a": [], "b": {"size": 1}},
        "owner": "ana",
        "lwo": 1,
    }
    found = told(Bicycle, data)
    assert len(found) == len(set(found))
    assert set(found) == {
        (("here", "wheels", 0, "size"), "must be at least 1"),
        (("here", "wheels", 1), TABLE),
        (("here", "wheels", 2, "size"), "is required"),
        (("here", "wheels", 2, "spokes"), NUMBER),
        (("here", "front", "size"), "is required"),
        (("here", "front", "sise"), 'unknown key; did you mean "size"?'),
        (("here", "low"), NUMBER),
        (("here", "names", "a"), TABLE),
        (("here", "owner"), "unknown key"),
        (("here", "lwo"), 'unknown key; did you mean "low"?'),
    }


def test_a_name_and_what_stands_under_it_have_a_fault_each() -> None:
    form = dict[Annotated[str, Check(shout)], int]
    assert told(form, {"quiet": 0.5, "x": 1}) == [(("here", "quiet"), "must be loud"), (("here", "quiet"), WHOLE)]


def test_keys_are_held_against_each_other_once_each_is_well() -> None:
    assert told(Bicycle, {"wheels": [], "low": 3, "high": 2}) == [(("here",), "has low above high")]
    assert told(Bicycle, {"wheels": [], "low": 3, "high": 2, "x": 1}) == [(("here", "x"), "unknown key")]
    with pytest.raises(ConfigError) as caught:
        read(Bicycle, {"wheels": 7, "low": 3, "high": 2, "owner": "ana"})
    assert list(map(str, caught.value.faults)) == ["wheels: must be a list", "owner: unknown key"]


def test_a_section_is_a_frozen_value() -> None:
    wheel = read(Wheel, {"size": 28})
    assert wheel == Wheel(size=28, spokes=36)
    assert wheel != Wheel(size=29)
    assert wheel.replace(spokes=3) == Wheel(size=28, spokes=3)
    assert repr(wheel) == "Wheel(size=28, spokes=36)"
    with pytest.raises(AttributeError):
        wheel.size = 29  # type: ignore[misc]


def test_what_a_section_declares() -> None:
    keys = keys_of(Bicycle)
    assert list(keys) == ["wheels", "front", "low", "high", "names"]
    assert [name for name, key in keys.items() if key.is_required] == ["wheels"]
    assert keys["low"].doc.meaning == "Lowest gear."
    assert (keys["wheels"].default, keys["low"].default, keys["names"].default) == (UNSET, 1, {})


def test_a_key_needs_documentation() -> None:
    class Undocumented(Section, frozen=True):
        size: Annotated[int, at_least(1)] = 1

    with pytest.raises(TypeError, match=r"Undocumented\.size has no Doc"):
        keys_of(Undocumented)


def sections() -> list[type[Section]]:
    return [section for section in Section.__subclasses__() if section.__module__.startswith("tentaculo.")]


@pytest.mark.parametrize("section", sections(), ids=lambda section: section.__name__)
def test_every_default_is_what_its_form_would_keep(section: type[Section]) -> None:
    needed = [name for name, key in keys_of(section).items() if key.is_required]
    plain = section(**dict.fromkeys(needed))
    for name in keys_of(section).keys() - {*needed}:
        default = getattr(plain, name)
        # A range is not written as it is kept.
        written = [200] if name == "status" else default
        assert kept(keys_of(section)[name].form, written) == default, name


@pytest.mark.thorough
@pytest.mark.parametrize("section", sections(), ids=lambda section: section.__name__)
@given(st.data())
@settings(max_examples=30, deadline=None)
def test_anything_is_a_section_or_has_faults_below_its_place(section: type[Section], data: st.DataObject) -> None:
    names = st.sampled_from([*keys_of(section), "x", ""])
    tables = data.draw(st.dictionaries(names, VALUES, max_size=5) | VALUES)
    faults: list[tuple[tuple[str | int, ...], str]] = []
    value = reader_for(section)(tables, ("here",), lambda *fault: faults.append(fault))
    assert (value is REFUSED) == bool(faults)
    assert value is REFUSED or isinstance(value, section)
    assert all(place[0] == "here" and message for place, message in faults)


def test_a_secret_is_shown_by_nothing_and_is_compared_by_what_it_is() -> None:
    secret = Secret("hunter2")
    assert "hunter2" not in f"{secret} {secret!r} {[secret]}"
    assert secret == Secret("hunter2") != Secret("hunter3")
    assert secret != "hunter2"
    assert len({secret, Secret("hunter2")}) == 1
    assert pickle.loads(pickle.dumps(secret)).reveal() == secret.reveal() == "hunter2"
