"""The pinned requirements are what pyproject.toml allows, whole, and what these tests run on."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.gateway_process import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PYTHONS = ("3.11", "3.12", "3.13")


def _pins(name: str) -> dict[str, str]:
    lines = [line.strip() for line in (ROOT / name).read_text().splitlines()]
    pins = [line.split("==") for line in lines if line and not line.startswith(("#", "-r "))]
    assert all(len(pin) == 2 for pin in pins), "every line is name==version"
    return {canonicalize_name(package): version for package, version in pins}


def _needed(requirements: Iterable[str]) -> set[str]:
    """The packages these ask for, and what those ask for, on any of our Pythons."""
    found: set[tuple[str, str]] = set()
    pending = [Requirement(text) for text in requirements]
    while pending:
        asked = pending.pop()
        key = (canonicalize_name(asked.name), ",".join(sorted(asked.extras)))
        if key in found:
            continue
        found.add(key)
        pending.extend(
            wanted
            for wanted in map(Requirement, distribution(asked.name).requires or ())
            if wanted.marker is None
            or any(
                wanted.marker.evaluate({"extra": extra, "python_version": python, "python_full_version": f"{python}.5"})
                for extra in {"", *asked.extras}
                for python in PYTHONS
            )
        )
    return {name for name, _ in found}


EXTRAS = PROJECT["optional-dependencies"]
RUN_TIME = [*PROJECT["dependencies"], *EXTRAS["postgresql"], *EXTRAS["compose"]]


def test_the_gateways_requirements_are_complete_and_no_more() -> None:
    assert set(_pins("requirements.txt")) == _needed(RUN_TIME)


def test_each_pin_is_one_that_the_project_allows() -> None:
    pins = _pins("requirements.txt")
    for requirement in map(Requirement, RUN_TIME):
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), str(requirement)


def test_the_two_files_do_not_overlap_and_the_second_includes_the_first() -> None:
    assert not set(_pins("requirements.txt")) & set(_pins("requirements-dev.txt"))
    assert "-r requirements.txt" in (ROOT / "requirements-dev.txt").read_text().splitlines()


def test_what_the_tests_need_is_complete() -> None:
    both = _pins("requirements.txt") | _pins("requirements-dev.txt")
    assert _needed(both) <= set(both)


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_these_tests_run_on_the_pinned_versions(name: str) -> None:
    different = {}
    for package, version in _pins(name).items():
        try:
            installed = distribution(package).version
        except PackageNotFoundError:
            installed = "missing"
        if installed != version:
            different[package] = (version, installed)
    assert different == {}


def test_the_oldest_python_is_the_same_everywhere() -> None:
    assert PROJECT["requires-python"] == ">=3.11"
    assert re.search(r"version_info < \(3, 11\)", (ROOT / "tools" / "bootstrap.sh").read_text())
