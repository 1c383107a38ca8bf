from __future__ import annotations

import pickle

import pytest

from tentaculo.config.probes import Pattern, ProbeSettings
from tentaculo.config.schema import Config
from tests.support.config import FaultsOf, LoadText

SERVICE = "[services.madre]\nurl = 'http://h'\n[services.madre.probe]\n"


def test_what_is_expected_of_an_answer(load_text: LoadText) -> None:
    text = f"""{SERVICE}
        method = "POST"
        status = [204, "300-399"]
        contains = "ready"
        matches = "v[0-9]+"
        require = ['status == "ok"']
        prefer = ["queue.depth < 100"]
        slow = 0.5
    """
    probe = load_text(text).config.services["madre"].probe
    assert probe.status == ((204, 204), (300, 399))
    assert probe.matches is not None
    assert probe.matches.is_in("madre v12")
    assert [str(condition) for condition in (*probe.require, *probe.prefer)] == ['status == "ok"', "queue.depth < 100"]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("kind = 'icmp'", "kind: must be one of 'http', 'tcp', 'tls', 'websocket', 'heartbeat' or 'none'"),
        ("method = 'DELETE'", "method: must be one of 'GET', 'HEAD', 'POST' or 'OPTIONS'"),
        ("status = [true]", 'status[0]: must be a status such as 204, or a range such as "200-299"'),
        ("status = [99]", 'status[0]: must be a status such as 204, or a range such as "200-299"'),
        ("status = ['299-200']", "status[0]: is a range whose end is before its start"),
        ("status = []", "status: must not be empty"),
        ("status = 200", "status: must be a list"),
        ("matches = '('", "matches: is not a regular expression without look-around and back-references"),
        ("matches = '(?=a)'", "matches: is not a regular expression without look-around and back-references"),
        ("matches = 7", "matches: must be text"),
        ("require = ['queue.depth']\nprefer = ['= 7']", "prefer[0]: must begin with a path"),
        ("require = ['queue.depth = 7']", "require[0]: must have one of == != < <= > >= after its path"),
        ("require = [7]", "require[0]: must be text"),
        ("slow = 0", "slow: must be more than 0"),
        ("jitter = 0.6", "jitter: must be at most 0.5"),
        ("failures = 0", "failures: must be at least 1"),
        ("successes = 0", "successes: must be at least 1"),
        ("certificate_days = -1", "certificate_days: must be at least 0"),
        ("headers = { Host = 'h' }", "headers.Host: belongs to the connection"),
        ('headers = { X-A = "a\\u000ab" }', "headers.X-A: must not contain control characters"),
    ],
)
def test_faults(faults_of: FaultsOf, line: str, fault: str) -> None:
    (told,) = faults_of(SERVICE + line)
    assert told.startswith(f"services.madre.probe.{fault}")


@pytest.mark.parametrize(
    ("kind", "line", "named"),
    [
        ("tcp", "contains = 'x'", "contains"),
        ("tls", "status = [204]", "status"),
        ("websocket", "require = ['a']", "require"),
        ("heartbeat", "slow = 1", "slow"),
        ("http", "silence = 5", "silence"),
        ("tcp", "method = 'HEAD'\nmatches = 'x'", "matches and method"),
        ("tls", "headers = { X-A = '1' }", "headers"),
        ("none", "slow = 1", "slow"),
    ],
)
def test_a_key_that_its_kind_does_not_know(faults_of: FaultsOf, kind: str, line: str, named: str) -> None:
    assert faults_of(f"{SERVICE}kind = '{kind}'\n{line}") == [
        f"services.madre.probe: has {named}, which a probe of kind {kind} does not support"
    ]


@pytest.mark.parametrize(
    "path", ["/health", "/dash/", "/", "/v1/sys/health?standbyok=true&perfstandbyok", "/?a=/b//../c", "/%C3%A9?"]
)
def test_a_health_path_stays_as_it_is_written(path: str) -> None:
    config = Config.of({"services": {"madre": {"url": "http://h", "health": path}}})
    assert config.services["madre"].health == (path,)


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        ("health", "must start with /"),
        ("?a", "must start with /"),
        ("/a/../b", "must not contain dot segments"),
        ("/a//b", "must be a plain path: no query, fragment, backslash, space or empty segment"),
        ("/a#b", "must be a plain path: no query, fragment, backslash, space or empty segment"),
        ("/a?b c", "has a query with a character that must be percent-encoded"),
        ("/a?b#c", "has a query with a character that must be percent-encoded"),
        ("/a?b\\r\\nX: y", "has a query with a character that must be percent-encoded"),
        ("/a?é", "has a query with a character that must be percent-encoded"),
    ],
)
def test_a_health_path_that_is_none(faults_of: FaultsOf, path: str, fault: str) -> None:
    assert faults_of(f'services.madre = {{ url = "http://h", health = ["{path}"] }}') == [
        f"services.madre.health[0]: {fault}"
    ]


def test_the_name_for_tls() -> None:
    def name(**keys: str) -> str:
        config = Config.of({"services": {"madre": {"url": "https://10.0.0.1", **keys}}})
        return config.services["madre"].name_for_tls

    assert name() == ""
    assert name(host="example.org:8443") == "example.org"
    assert name(host="[::1]:8443") == "::1"
    assert name(host="a", tls_server_name="Example.org.") == "example.org"


@pytest.mark.parametrize("value", ["auto", "off", 1, 4096])
def test_the_concurrency_of_a_service(value: str | int) -> None:
    config = Config.of({"services": {"madre": {"url": "http://h", "concurrency": value}}})
    assert config.services["madre"].concurrency == value


@pytest.mark.parametrize("value", ["0", "-1", "2.5", "true", '"many"', '"0"', '"1_0"', "[]"])
def test_a_concurrency_that_is_none(faults_of: FaultsOf, value: str) -> None:
    assert faults_of(f'services.madre = {{ url = "http://h", concurrency = {value} }}') == [
        "services.madre.concurrency: must be 'auto', 'off' or a whole number of at least 1"
    ]


def test_an_answer_to_head_has_no_body_to_look_at(faults_of: FaultsOf) -> None:
    assert faults_of(f"{SERVICE}method = 'HEAD'\ncontains = 'x'\nprefer = ['a']") == [
        "services.madre.probe: has contains and prefer, but its method is HEAD, and a response to HEAD has no body"
    ]


def test_a_silence_says_it_all_by_itself() -> None:
    assert ProbeSettings(kind="heartbeat").thresholds == (1, 1)
    assert ProbeSettings(failures=4, successes=7).thresholds == (4, 7)


def test_a_pattern_takes_time_in_proportion() -> None:
    # Engines that go back take a time that doubles with each character of these.
    for pattern, text in (
        ("^(a+)+$", "a" * 100_000 + "!"),
        ("(x+x+)+y", "x" * 100_000),
        ("^(a|a?)+$", "a" * 50_000 + "b"),
    ):
        assert not Pattern(pattern).is_in(text)
    assert Pattern("(?i)READY").is_in("é ready \ufffd")
    assert repr(Pattern("a")) == "<Pattern a>"


def test_a_pattern_reaches_another_process() -> None:
    again = pickle.loads(pickle.dumps(Pattern("v[0-9]+$")))
    assert again == Pattern("v[0-9]+$") != Pattern("v")
    assert hash(again) == hash(Pattern("v[0-9]+$"))
    assert (again.is_in("madre v12"), again.is_in("v12 madre")) == (True, False)


@pytest.mark.parametrize("text", ["(", "a{1001}", "(?<!a)b", r"(a)\1", "[z-a]", "\ud800"])
def test_what_is_no_pattern(text: str) -> None:
    with pytest.raises(ValueError, match=r"^is not a regular expression without look-around and back-references$"):
        Pattern(text)


def test_conditions_with_a_finite_bound_are_gauges_once_and_not_too_many(load_text: LoadText) -> None:
    conditions = '"a < 1", "a <= 2", "a > 0", "b == 3", "c", "d > 1e999"'
    text = f"{SERVICE}prefer = [{conditions}]\nrequire = ['a < 9', 'f >= -2']"
    gauges = load_text(text).config.services["madre"].probe.gauges
    assert [(one.gauge, one.bound) for one in gauges] == [("gauge:a", 1), ("gauge_low:a", 0), ("gauge_low:f", -2)]
    many = ", ".join(f"'{'x' * 60}[{at}] < 1', 'y[{at}] < 1'" for at in range(20))
    names = [one.gauge for one in load_text(f"{SERVICE}prefer = [{many}]").config.services["madre"].probe.gauges]
    assert len(names) == 8
    assert max(map(len, names)) <= 64
