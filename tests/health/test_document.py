"""docs/health.md says what is so."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tentaculo.config import probes
from tentaculo.config.limits import LimitSettings
from tentaculo.config.schema import Config
from tentaculo.config.section import Section, keys_of
from tentaculo.config.services import BreakerSettings
from tentaculo.health.evaluation import ProbeBody, stated_health
from tentaculo.health.prober import KINDS
from tentaculo.model.health import Health
from tests.support.gateway_process import ROOT

TEXT = (ROOT / "docs" / "health.md").read_text("utf-8")


def table(heading: str) -> list[list[str]]:
    """The cells of the first table below `heading`, without its first two lines."""
    rows = re.search(r"(?:^\|.*\n)+", TEXT[TEXT.index(heading) :], re.MULTILINE)
    assert rows is not None
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[0].splitlines()[2:]]


def test_every_state_is_there() -> None:
    assert {row[0].strip("`") for row in table("## States")} == {health.value for health in Health}


def test_every_kind_of_probe_is_there() -> None:
    kinds = table("`probe.kind` says how a service is probed")
    assert {row[0].partition(" ")[0].strip("`") for row in kinds} == {*KINDS, "none"}


def test_what_is_expected_of_a_response_is_there_with_its_default() -> None:
    rows = {row[0].strip("`"): row[1].strip("`") for row in table("### What is expected of a response")}
    assert {*rows} == {*probes._OF_KIND["http"]}
    probe = probes.ProbeSettings()
    assert (rows["method"], rows["status"]) == (probe.method, str([low for low, _ in probe.status]))
    assert int(rows["certificate_days"]) == probe.certificate_days


def test_what_responses_say() -> None:
    *known, _ = table("### What responses say")
    for words, health in known:
        for word in re.findall(r"`(\w+)`", words):
            assert stated_health(ProbeBody(f'{{"status": "{word}"}}'))[0].value == health
    assert len(known) == 3


@pytest.mark.parametrize(
    ("model", "section"),
    [(probes.ProbeSettings(), "probe"), (BreakerSettings(), "breaker"), (LimitSettings(), "limits")],
    ids=str,
)
def test_defaults_in_the_text(model: Any, section: str) -> None:
    """As `probe.failures` probes in a row (3 by default), or `breaker.rate` (50 %)."""
    told = re.findall(rf"`{section}\.(\w+)`[^`|()]*\((\d+(?:\.\d+)?)( %)?[^)]*\)", TEXT)
    assert told
    for key, number, percent in told:
        default = getattr(model, key)
        assert float(number) == (default * 100 if percent else default), key


def test_the_examples_are_valid() -> None:
    blocks = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)
    assert blocks
    for block in blocks:
        tables = tomllib.loads(block.replace("whsec_…", "whsec_" + "A" * 44))
        services = {name: {"url": "http://h", **table} for name, table in tables.pop("services", {}).items()}
        Config.of({**tables, "services": services})


def test_every_setting_that_it_names_exists() -> None:
    known: dict[str, type[Section]] = {
        "probe": probes.ProbeSettings,
        "breaker": BreakerSettings,
        "limits": LimitSettings,
    }
    named = re.findall(r"`(probe|breaker|limits)\.(\w+)`", TEXT)
    assert [f"{section}.{key}" for section, key in named if key not in keys_of(known[section])] == []


def test_the_links_lead_somewhere() -> None:
    headings = {
        re.sub(r"[^\w -]", "", line).strip().lower().replace(" ", "-") for line in re.findall(r"(?m)^#+ (.*)", TEXT)
    }
    assert set(re.findall(r"\]\(#([\w-]+)\)", TEXT)) <= headings
    assert [link for link in re.findall(r"\]\(([\w./-]+)\)", TEXT) if not Path(ROOT / "docs" / link).exists()] == []
