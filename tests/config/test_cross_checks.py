from __future__ import annotations

import pytest

from tests.support.config import FaultsOf, LoadText


@pytest.mark.parametrize("name", ["tentaculo_link", "tentaculo-link", "Gateway"])
def test_no_service_is_called_as_the_gateway_is(faults_of: FaultsOf, name: str) -> None:
    sentence = "is reserved for the gateway; choose another name"
    assert faults_of(f"[services.{name}]\nurl = 'http://h'") == [f"services.{name}: {sentence}"]
    assert faults_of(f"[services.a]\nurl = 'http://h'\naliases = ['{name}']") == [f"services.a.aliases[0]: {sentence}"]


@pytest.mark.parametrize("name", ["a b", "a/b", "á", "", "-a", "a" * 65])
def test_a_name_that_cannot_stand_in_a_path_is_a_fault(faults_of: FaultsOf, name: str) -> None:
    (fault,) = faults_of(f"[services.'{name}']\nurl = 'http://h'")
    assert "must have only letters, digits, _ and -" in fault
    (fault,) = faults_of(f"[services.a]\nurl = 'http://h'\naliases = ['{name}']")
    assert fault.startswith("services.a.aliases[0]: must have only letters")


def test_names_that_are_one_in_the_environment_are_a_fault(faults_of: FaultsOf) -> None:
    (fault,) = faults_of("[services.my-api]\nurl = 'http://h'\n[services.My_API]\nurl = 'http://i'")
    assert fault.startswith("services.My_API: differs from services.my-api only in case, - or _;")
    assert fault.endswith(" both are TENTACULO_SERVICES_MY_API")


def test_an_alias_belongs_to_one_service(faults_of: FaultsOf, load_text: LoadText) -> None:
    text = """
        [services.one]
        url = "http://1"
        aliases = ["uno", "one", "two", "uno"]
        [services.two]
        url = "http://2"
        aliases = ["Uno"]
    """
    assert faults_of(text) == [
        "services.one.aliases[1]: is the service's own name",
        "services.one.aliases[2]: is the name of another service, two",
        "services.one.aliases[3]: is taken already by services.one.aliases[0]",
        "services.two.aliases[0]: is taken already by services.one.aliases[0]",
    ]
    operator = "[services.operator]\nurl = 'http://h'\naliases = ['operator-backend', 'operator_backend']"
    assert load_text(operator).config.services["operator"].aliases == ("operator-backend", "operator_backend")


def test_a_route_belongs_to_one_service_per_host(faults_of: FaultsOf, load_text: LoadText) -> None:
    text = """
        [services.one]
        url = "http://1"
        routes = [{{ prefix = "/a" }}, {{ prefix = "/a", host = "x.example" }}, {{ prefix = "/" }}]
        [services.two]
        url = "http://2"
        routes = [{{ prefix = "/a{more}" }}, {{ prefix = "/a{more}", host = "{host}" }}, {{ prefix = "/b" }}]
    """
    taken = "is taken already by services.one.routes"
    assert faults_of(text.format(more="/", host="X.example.")) == [
        f"services.two.routes[0].prefix: {taken}[0]",
        f"services.two.routes[1].prefix: {taken}[1]",
    ]
    assert len(load_text(text.format(more="/more", host="y.example")).config.services["two"].routes) == 3


def test_a_whole_path_and_a_prefix_may_be_the_same(faults_of: FaultsOf, load_text: LoadText) -> None:
    text = """
        [services.one]
        url = "http://1"
        routes = [{{ prefix = "/a" }}, {{ prefix = "/a", exact = true }}, {{ prefix = "/a/", exact = true }},
                  {{ prefix = "/a/{{id}}", exact = true }}{more}]
    """
    assert len(load_text(text.format(more="")).config.services["one"].routes) == 4
    for prefix, index in (("/a", 1), ("/a/", 2), ("/a/{other}", 3)):
        (fault,) = faults_of(text.format(more=f", {{ prefix = '{prefix}', exact = true }}"))
        assert fault == f"services.one.routes[4].prefix: is taken already by services.one.routes[{index}]"


@pytest.mark.parametrize(
    ("route", "fault"),
    [
        ("prefix = '/a/{id}'", "prefix: has a {name}, which needs exact = true"),
        ("prefix = '/a', to = '/b/{id}'", "to: has a {name}, which needs exact = true"),
        ("prefix = '/a/x{id}', exact = true", "prefix: must have each {name} as a whole segment"),
        ("prefix = '/a/{id', exact = true", "prefix: must have each {name} as a whole segment"),
        ("prefix = '/a/{i-d}', exact = true", "prefix: must have each {name} as a whole segment"),
        ("prefix = '/a/{id}/{id}', exact = true", "prefix: has {id} twice"),
        ("prefix = '/a/{id}', to = '/{ix}', exact = true", "to: has {ix}, which prefix does not have"),
        ("prefix = '/a', to = '/{id}/x', exact = true", "to: has {id}, which prefix does not have"),
    ],
)
def test_a_changing_segment_is_written_in_one_way(faults_of: FaultsOf, route: str, fault: str) -> None:
    assert faults_of(f"[services.one]\nurl = 'http://1'\nroutes = [{{ {route} }}]") == [
        f"services.one.routes[0].{fault}"
    ]


def test_both_kinds_of_fault_show_where_one_would_hide_the_other(faults_of: FaultsOf) -> None:
    text = "[services.a]\nbreaker = { failures = 0 }\nroutes = [{ strip = true, to = '/x', timeout = -1 }]"
    assert faults_of(text) == [
        "services.a: needs either url or urls",
        "services.a.breaker.failures: must be at least 1",
        "services.a.routes[0]: has both strip and to; to already replaces the prefix",
        "services.a.routes[0].prefix: is required",
        "services.a.routes[0].timeout: must be more than 0",
    ]


def test_a_session_stays_with_one_endpoint_and_a_hedge_does_not(faults_of: FaultsOf) -> None:
    text = "[services.a]\nurls = ['http://1', 'http://2']\nsticky = true\nroutes = [{ prefix = '/a', hedge = true }]"
    assert faults_of(text) == [
        "services.a: has both sticky and a route with hedge; a hedge goes to another endpoint than the session's"
    ]


def test_a_hedge_would_ask_two_targets(faults_of: FaultsOf) -> None:
    targets = "[{ name = 'a', value = 'x' }, { name = 'b', value = 'y' }]"
    route = f"{{ prefix = '/a', hedge = true, rotation = {{ targets = {targets}, set = '/model' }} }}"
    assert faults_of(f"[services.a]\nurl = 'http://1'\nroutes = [{route}]") == [
        "services.a.routes[0]: has both hedge and rotation; which target would be asked twice, and paid for?"
    ]


def test_what_a_service_depends_on_is_another_service(faults_of: FaultsOf) -> None:
    text = """
        [services.switch]
        url = "http://1"
        aliases = ["router"]
        [services.operator]
        url = "http://2"
        depends_on = ["switch", "operator", "swich", "router", 7]
    """
    assert faults_of(text) == [
        "services.operator.depends_on[1]: is the service itself",
        'services.operator.depends_on[2]: is not the name of a service; did you mean "switch"?',
        "services.operator.depends_on[3]: is not the name of a service",
        "services.operator.depends_on[4]: must be text",
    ]


def test_no_service_depends_on_itself_in_a_circle(faults_of: FaultsOf, load_text: LoadText) -> None:
    text = """
        [services.a]
        url = "http://1"
        depends_on = ["b", "d"]
        [services.b]
        url = "http://2"
        depends_on = ["c"]
        [services.c]
        url = "http://3"
        depends_on = [{circle}]
        [services.d]
        url = "http://4"
    """
    (fault,) = faults_of(text.format(circle='"a"'))
    where, circle = fault.split(": is a circular dependency: ")
    names = circle.split(" → ")
    assert where == f"services.{names[0]}.depends_on"
    assert circle in ("a → b → c → a", "b → c → a → b", "c → a → b → c")
    assert load_text(text.format(circle='"d"')).config.services["a"].depends_on == ("b", "d")
