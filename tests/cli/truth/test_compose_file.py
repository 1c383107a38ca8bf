from __future__ import annotations

from typing import Any

import pytest
import yaml

from tentaculo.cli.truth import compose_file
from tentaculo.cli.truth.compose_file import ComposeHealthcheck, ComposeService
from tentaculo.cli.truth.compose_variables import ComposeError


def only(text: str) -> ComposeService:
    """The one service of a file whose service has the keys in `text`."""
    (declared,) = compose_file.read({"services": {"madre": yaml.safe_load(text) or {}}}).values()
    return declared


def ports(*entries: Any) -> tuple[list[int], dict[int, int]]:
    declared = compose_file.read({"services": {"madre": {"ports": list(entries)}}})["madre"]
    return sorted(declared.inner), dict(declared.published)


@pytest.mark.parametrize(
    ("entry", "inner", "published"),
    [
        ("8001", [8001], {}),
        (8001, [8001], {}),
        ("18001:8001", [8001], {18001: 8001}),
        ("127.0.0.1:18001:8001", [8001], {18001: 8001}),
        ("127.0.0.1::8001", [8001], {}),
        ("[::1]:18001:8001", [8001], {18001: 8001}),
        ("8001:8001/tcp", [8001], {8001: 8001}),
        ("8001:8001/udp", [], {}),
        ("9000-9002:8000-8002", [8000, 8001, 8002], {9000: 8000, 9001: 8001, 9002: 8002}),
        ("9000-9005:8001", [8001], {}),
        ("${PORT:-18001}:8001", [8001], {18001: 8001}),
        ("${PUBLISH:-127.0.0.1:18001}:8001", [8001], {18001: 8001}),
        ("${PORT:-${OTHER:-18001}}:${A-${B-${C-8001}}}", [8001], {18001: 8001}),
        ("$PORT:8001", [8001], {}),
        ({"target": 8001, "published": "18001", "host_ip": "127.0.0.1"}, [8001], {18001: 8001}),
        ({"target": 8001}, [8001], {}),
        ({"target": 8001, "published": 1, "protocol": "udp"}, [], {}),
        ("madre:madre", [], {}),
        ("", [], {}),
        (None, [], {}),
        (["8001"], [], {}),
        ("99999999999", [], {}),
        ("1-65535", [], {}),
    ],
)
def test_ports(entry: Any, inner: list[int], published: dict[int, int]) -> None:
    assert ports(entry) == (inner, published)


def test_what_is_exposed_is_listened_on_too() -> None:
    declared = only('expose: ["8001", 8002, "8003-8004", "8005/tcp"]\nports: ["80:8006"]')
    assert sorted(declared.inner) == [8001, 8002, 8003, 8004, 8005, 8006]
    assert declared.published == {80: 8006}


@pytest.mark.parametrize(
    ("text", "check", "is_unchecked"),
    [
        ("", None, True),
        ("healthcheck: {test: [CMD, curl, -f, 'http://localhost:8001/health']}", ComposeHealthcheck(8001, "/health"), False),
        ("healthcheck: {test: [CMD-SHELL, 'curl -f http://localhost:8001/health || exit 1']}", ComposeHealthcheck(8001, "/health"), False),
        ("healthcheck: {test: wget -q -O- 'http://127.0.0.1/healthz' || exit 1}", ComposeHealthcheck(None, "/healthz"), False),
        ('healthcheck: {test: [CMD, curl, "https://localhost:8443"]}', ComposeHealthcheck(8443, "/"), False),
        ("healthcheck: {test: [CMD, curl, 'http://localhost:${PORT:-8001}/health']}", ComposeHealthcheck(8001, "/health"), False),
        ("healthcheck: {test: [CMD, curl, 'http://localhost:99999/health']}", None, False),
        ("healthcheck: {test: [CMD, pg_isready]}", None, False),
        ("healthcheck: {test: [NONE]}", None, True),
        ("healthcheck: {disable: true, test: [CMD, curl, 'http://localhost:1/']}", None, True),
        ("healthcheck: {interval: 5s}", None, True),
        ("healthcheck: [what]", None, True),
        ("environment: {HEALTHCHECK_URL: 'http://127.0.0.1:8001/health'}", ComposeHealthcheck(8001, "/health"), False),
        ("environment: ['HEALTHCHECK_URL=http://127.0.0.1:8001/health', 'A']", ComposeHealthcheck(8001, "/health"), False),
        ("environment: {HEALTHCHECK_URL: null}", None, True),
    ],
)  # fmt: skip
def test_where_a_health_check_asks(text: str, check: ComposeHealthcheck | None, is_unchecked: bool) -> None:
    declared = only(text)
    assert (declared.check, declared.is_unchecked) == (check, is_unchecked)


def test_how_other_containers_reach_it() -> None:
    assert only("").hosts == {"madre"}
    declared = only(
        "container_name: vx11-madre\nhostname: mother\n"
        "networks: {default: {aliases: [m1, m2]}, back: null, other: {ipv4_address: 10.0.0.1}}"
    )
    assert declared.hosts == {"madre", "vx11-madre", "mother", "m1", "m2"}
    assert only("networks: [back]").hosts == {"madre"}


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (None, "it has no services"),
        ([], "it has no services"),
        ("text", "it has no services"),
        ({}, "it has no services"),
        ({"services": ["madre"]}, "it has no services"),
        ({"services": {"madre": "image"}}, "services.madre is no table"),
        ({"services": {"madre": None}}, "services.madre is no table"),
    ],
)
def test_what_is_no_compose_file_says_so(document: object, said: str) -> None:
    with pytest.raises(ComposeError, match=said):
        compose_file.read(document)


def test_a_dollar_that_is_meant_stays_one() -> None:
    assert only("container_name: a$$b").hosts == {"madre", "a$b"}
    assert only("container_name: a$${B:-c}$$$${D:-e}").hosts == {"madre", "a${B:-c}$${D:-e}"}


def test_a_check_is_shown_by_where_it_asks() -> None:
    assert [str(ComposeHealthcheck(8001, "/health")), str(ComposeHealthcheck(None, "/"))] == [":8001/health", "/"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("ports: !override ['8001:80']", {"ports": ["8001:80"]}),
        ("ports: !override\n  - 8001:80\n", {"ports": ["8001:80"]}),
        ("a: !override {b: 1}", {"a": {"b": 1}}),
        ("a: !override 8001", {"a": 8001}),
        ("a: !override '8001'", {"a": "8001"}),
        ("a: !reset {}\nb: 1", {"b": 1}),
        ("a: !reset null", {}),
        ("a: !reset 5", {}),
        ("a: [1, !reset 2]", {"a": [1]}),
        ("a: !of-a-tool {b: [yes]}", {"a": {"b": ["yes"]}}),
        ("a: 22:22", {"a": "22:22"}),
        ("a: [3306:3306, 1:2:3]", {"a": ["3306:3306", "1:2:3"]}),
        ("on: {no: y}", {"on": {"no": "y"}}),
        ("007: 2026-99-99", {"007": "2026-99-99"}),
        ("a: [true, False, null, ~, ]", {"a": [True, False, None, None]}),
        ("a: [0x1F, 0o17, 017, 0b11, 8_001, -5, 0, 08, 1e3]", {"a": [31, 15, 15, 3, 8001, -5, 0, "08", "1e3"]}),
        ("x: &x {expose: [1]}\na: {<<: *x, b: 2}", {"x": {"expose": [1]}, "a": {"expose": [1], "b": 2}}),
    ],
)
def test_values_are_read_as_compose_reads_them(text: str, value: Any) -> None:
    assert compose_file.parse(text.encode()) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("--- {a: 1}\n--- {b: 2}", {"a": 1, "b": 2}),
        ("--- {a: {b: 1, c: 2}}\n--- {a: {b: 3}}", {"a": {"b": 3, "c": 2}}),
        ("--- {a: 1}\n---\n", {"a": 1}),
        ("--- {ports: ['80']}\n--- {ports: ['81']}", {"ports": ["80", "81"]}),
        ("--- {ports: ['80']}\n--- {ports: !override ['81']}", {"ports": ["81"]}),
        ("--- {ports: ['80'], a: 1}\n--- {ports: !reset []}", {"a": 1}),
        ("--- {test: [CMD, a]}\n--- {test: [CMD, b]}", {"test": ["CMD", "b"]}),
        ("--- {environment: [A=1, B]}\n--- {environment: {A: 2}}", {"environment": {"A": 2, "B": None}}),
        ("--- {networks: [one]}\n--- {networks: {two: {aliases: [x]}}}", {"networks": {"one": None, "two": {"aliases": ["x"]}}}),
    ],
)  # fmt: skip
def test_later_documents_are_merged_into_earlier_ones(text: str, value: Any) -> None:
    assert compose_file.parse(text.encode()) == value


def test_only_variables_of_what_is_read_must_have_a_value() -> None:
    services = {
        "services": {
            "madre": {"image": "${TAG:?}", "environment": ["SECRET=${SECRET:?}"], "ports": ["1:${P:?no port}"]}
        }
    }
    assert compose_file.read(services, {"P": "8001"})["madre"].published == {1: 8001}
    with pytest.raises(ComposeError, match=r"services\.madre: the variable P has no value: no port"):
        compose_file.read(services)


def test_a_service_that_is_reset_is_not_declared() -> None:
    document = compose_file.parse(b"services: {a: !reset {}, operator-backend: {ports: !override [22:22]}}")
    (declared,) = compose_file.read(document).values()
    assert (declared.name, declared.published) == ("operator-backend", {22: 22})


@pytest.mark.parametrize("text", [b"a: !!python/object:os.system {}", b"a: !!python/name:os.system ''", b"a: ["])
def test_what_makes_objects_is_refused(text: bytes) -> None:
    with pytest.raises(yaml.YAMLError):
        compose_file.parse(text)
