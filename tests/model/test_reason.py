"""A reason is its English text, and keeps its code and values: over a pickle, over the database, and within others."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import pytest

from tentaculo.model.reason import MOST_LENGTH, TEXTS, Reason, because, stated
from tests.support.gateway_process import ROOT

ANSWERED = because("answered", status=503)
NESTED = because(
    "faulty", what=because("took", what=ANSWERED, milliseconds=4), faults=[because("body_cut"), "a.b is 3"]
)
PLAIN = {
    "what": {
        "code": "took",
        "values": {"what": {"code": "answered", "values": {"status": 503}}, "milliseconds": 4},
    },
    "faults": [{"code": "body_cut", "values": {}}, "a.b is 3"],
}


def test_it_is_its_text() -> None:
    assert ANSWERED == "answered 503"
    assert NESTED == "answered 503 in 4 ms, but longer than what is read of it; a.b is 3"
    assert because("no_response_within", seconds=3.0) == "no response within 3 s"
    assert because("no_response_within", seconds=0.25) == "no response within 0.25 s"
    # What a service said is not read as a text of ours.
    assert because("calls_itself", word="{status}") == "calls itself {status}"
    assert type(str(NESTED)) is type(NESTED[:9]) is str


def test_code_and_values_go_from_one_worker_to_the_other() -> None:
    found = pickle.loads(pickle.dumps(NESTED))
    assert (found, found.code, found.plain_values()) == (NESTED, "faulty", PLAIN)


def test_values_are_json_with_the_reasons_in_them() -> None:
    assert NESTED.plain_values() == PLAIN
    found = Reason.decode(str(NESTED), NESTED.code, NESTED.encode_values())
    assert found is not None
    assert (found, found.code, found.plain_values()) == (NESTED, "faulty", PLAIN)
    odd = because("without_text", text="a\0b\ud800c")
    assert odd.plain_values() == {"text": "a\0b?c"}
    assert Reason.decode("x", "without_text", odd.encode_values()) is not None


@pytest.mark.parametrize(
    ("code", "values"), [(None, None), ("", "{}"), ("answered", None), ("answered", "[7]"), ("answered", "no json")]
)
def test_a_row_without_a_code_or_of_another_version_has_its_text_only(code: str | None, values: str | None) -> None:
    assert Reason.decode("answered 503", code, values) is None


def test_values_that_are_long_are_told_from_those_that_are_kept() -> None:
    assert NESTED.is_short
    assert not because("without_text", text="x" * MOST_LENGTH).is_short


def test_a_moment_is_iso_8601_in_the_values_and_shorter_in_the_text() -> None:
    seen = because("recovered_unseen", time="2026-03-14T15:09:26.535897+00:00")
    assert "at 2026-03-14 15:09 UTC, not" in seen
    assert seen.plain_values() == {"time": "2026-03-14T15:09:26.535897+00:00"}


def test_what_the_configuration_states_is_public_and_a_default_has_a_code_of_its_own() -> None:
    own = stated("a new disk", "planned_maintenance")
    assert (own, own.code, own.public) == ("a new disk", "stated", "a new disk")
    default = because("switched_off", what=stated("off on purpose", "off_on_purpose"))
    assert default.plain_values() == {"what": {"code": "off_on_purpose", "values": {}}}
    assert default.public == "It was switched off: off on purpose"
    assert because("recovered", what="its own words").public == "It is healthy again: …"
    assert because("explained_by", root="switch", id=7).public == "Explained by the failure of switch: incident 7."


def test_every_code_is_made_somewhere_and_every_text_names_its_values() -> None:
    source = (
        "".join(
            path.read_text()
            for folder in ("config", "gateway", "health", "incidents", "upstream")
            for path in sorted(Path(ROOT / "tentaculo" / folder).rglob("*.py"))
        )
        + Path(ROOT / "tentaculo" / "model" / "failure.py").read_text()
    )
    made = set(re.findall(r'"(\w+)"', source))
    # Those whose code has a changing part: whose certificate, how many addresses, and whether there is a further failure.
    composed = {f"{whose}_{what}" for whose in ("certificate", "issuer") for what in ("expired", "expires")}
    composed |= {f"{count}_{word}" for count in ("one", "some") for word in ("down", "degraded")}
    composed |= {"stated"}  # of a reason that the configuration states
    composed |= {f"{code}_because" for code in ("trial_failed", "one_failure", "failures_in_a_row", "requests_failed")}
    assert TEXTS.keys() - made - composed == set()
    assert all(re.fullmatch(r"[a-z_]{1,64}", code) for code in TEXTS)
