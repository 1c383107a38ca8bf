from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tentaculo.config import environment
from tentaculo.config.environment import child_environment, database_url, is_sqlite, make_database_folder, variable_name
from tentaculo.config.key_reference import ANY, Key, walk
from tentaculo.config.reader import read
from tentaculo.config.schema import Config
from tentaculo.config.storage import DatabaseSettings
from tests.support.config import SECRET, FaultsOf, LoadText

FILE = """
[server]
listen = ["127.0.0.1:1", "[::1]:1"]
[services.madre]
urls = ["http://a", "http://b"]
[services.my-api]
url = "http://c"
"""


def test_the_environment_wins_over_the_file(load_text: LoadText) -> None:
    config = load_text(
        FILE,
        {
            "TENTACULO_SERVER_KEEPALIVE": " 12.5 ",
            "TENTACULO_AUTH_ENABLED": "no",
            "TENTACULO_DATABASE_URL": "postgresql://db/x",
            "TENTACULO_CORS_ORIGINS": '["http://one"]',
            "TENTACULO_LOG_LEVEL": "debug",
            "TENTACULO_SERVICES_MADRE_BREAKER": '{"failures": 2, "open_for": 3}',
            "TENTACULO_SERVICES_MADRE_BREAKER_FAILURES": "7",
            "TENTACULO_SERVICES_MADRE_ROUTES": '[{"prefix": "/madre", "strip": true}]',
            "TENTACULO_SERVICES_MY_API_HEALTH": '"/ping"',
        },
    ).config
    madre = config.services["madre"]
    assert config.server.keepalive == 12.5
    assert config.auth.enabled is False
    assert config.database.url.reveal() == "postgresql://db/x"
    assert config.cors.origins == ("http://one",)
    assert config.log.level == "debug"
    assert (madre.breaker.failures, madre.breaker.open_for) == (7, 3)
    assert madre.routes[0].replacement == ""
    assert config.services["my-api"].health == ("/ping",)


def test_one_address_in_the_environment_replaces_several_in_the_file(load_text: LoadText) -> None:
    config = load_text(FILE, {"TENTACULO_SERVICES_MADRE_URL": "http://z", "TENTACULO_SERVER_PORT": "5"}).config
    assert config.services["madre"].addresses == ("http://z",)
    assert config.server.addresses == (("127.0.0.1", 5),)


def test_listen_and_port_both_in_the_environment_leave_listen_in_force(load_text: LoadText) -> None:
    environ = {"TENTACULO_SERVER_PORT": "5", "TENTACULO_SERVER_LISTEN": '["[::1]:7"]'}
    assert load_text(FILE, environ).config.server.addresses == (("::1", 7),)


def test_a_whole_fleet_can_come_from_the_environment(load_text: LoadText) -> None:
    services = json.dumps({"one": {"url": "http://one"}, "two-x": {"url": "http://two"}})
    config = load_text(FILE, {"TENTACULO_SERVICES": services, "TENTACULO_SERVICES_TWO_X_URL": "http://2"}).config
    assert {name: service.url for name, service in config.services.items()} == {
        "one": "http://one",
        "two-x": "http://2",
    }


def test_of_services_whose_names_overlap_the_longest_is_meant(load_text: LoadText) -> None:
    text = """
        [services.a]
        url = "http://a"
        [services.a_probe]
        url = "http://b"
    """
    config = load_text(text, {"TENTACULO_SERVICES_A_PROBE": '{"url": "http://c"}'}).config
    assert config.services["a_probe"].url == "http://c"
    assert config.services["a"].probe.interval == 10


def test_an_unknown_name_is_a_warning_with_a_hint(load_text: LoadText) -> None:
    first, second = load_text(
        FILE, {"TENTACULO_SERVER_PROT": "1", "TENTACULO_PORT_8000_TCP": "x", "OTHER": "y"}
    ).warnings
    assert first == "TENTACULO_PORT_8000_TCP is not the name of a key and is ignored"
    assert second.startswith("TENTACULO_SERVER_PROT is not the name of a key and is ignored")
    assert second.endswith('; did you mean "TENTACULO_SERVER_PORT"?')


@pytest.mark.parametrize("name", ["TENTACULO_FOLDER", "TENTACULO_PLAIN_TOKEN", "TENTACULO_SERVICES_MADRE_NAME"])
def test_what_only_loading_sets_has_no_name(load_text: LoadText, name: str) -> None:
    (warning,) = load_text(FILE, {name: SECRET}).warnings
    assert name in warning
    assert SECRET not in warning


def test_a_port_that_kubernetes_made_is_ignored(load_text: LoadText) -> None:
    loaded = load_text("", {"TENTACULO_SERVER_PORT": "tcp://10.96.0.1:8000"})
    assert loaded.config.server.port == 8000
    assert "Kubernetes" in loaded.warnings[0]


def test_an_empty_value_is_not_set(load_text: LoadText) -> None:
    config = load_text(FILE, {"TENTACULO_SERVER_KEEPALIVE": " ", "TENTACULO_TOKEN": ""}).config
    assert config.server.keepalive == 75
    assert config.plain_token is None


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "http://a, http://b"])
def test_what_should_be_json_and_is_not_is_a_fault(faults_of: FaultsOf, text: str) -> None:
    (fault,) = faults_of(FILE, {"TENTACULO_SERVICES_MADRE_URLS": text})
    assert fault.startswith("TENTACULO_SERVICES_MADRE_URLS: must be a list as JSON")


def test_an_unknown_key_inside_json_is_a_fault_that_names_the_variable(faults_of: FaultsOf) -> None:
    faults = faults_of(FILE, {"TENTACULO_SERVICES_MADRE_ROUTES": '[{"prefix": "/", "strp": true}]'})
    assert faults == [
        'services.madre.routes[0].strp: unknown key; did you mean "strip"? (set by TENTACULO_SERVICES_MADRE_ROUTES)'
    ]


def test_a_value_for_a_section_that_is_no_table_leaves_that_fault(faults_of: FaultsOf) -> None:
    assert faults_of("server = 3", {"TENTACULO_SERVER_PORT": "1"}) == ["server: must be a table"]


def test_every_key_outside_routes_has_a_name_that_works(load_text: LoadText) -> None:
    for key in walk():
        if key.path.count(ANY) > (key.path[0] == "services") or key.path == ("services",):
            continue
        path = tuple("my-api" if step == ANY else step for step in key.path)
        loaded = load_text(FILE, {variable_name(*path): ""})
        assert loaded.warnings == (), path


def test_a_child_process_gets_the_resolved_database(load_text: LoadText, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOMETHING", "else")
    config = load_text("").config
    environ = child_environment(config)
    assert environ["TENTACULO_DATABASE_URL"] == database_url(config)
    assert environ["SOMETHING"] == "else"


def config_with(url: str, folder: Path) -> Config:
    return Config(database=read(DatabaseSettings, {"url": url}), folder=folder)


@pytest.mark.parametrize(
    ("url", "resolved"),
    [
        ("sqlite:///data/x.db", "sqlite:////etc/t/data/x.db"),
        ("sqlite+pysqlite:///x.db?timeout=3", "sqlite:////etc/t/x.db?timeout=3"),
        ("sqlite:////var/x.db", "sqlite:////var/x.db"),
        ("sqlite://", "sqlite://"),
        ("sqlite:///:memory:", "sqlite:///:memory:"),
        ("sqlite:///file:x?mode=memory&uri=true", "sqlite:///file:x?mode=memory&uri=true"),
        ("postgresql://u:p@h/d", "postgresql+pg8000://u:p@h/d"),
        ("postgres://h/d", "postgresql+pg8000://h/d"),
        ("postgresql+pg8000://h/d", "postgresql+pg8000://h/d"),
    ],
)
def test_an_address_is_resolved(url: str, resolved: str) -> None:
    config = config_with(url, Path("/etc/t"))
    assert database_url(config) == resolved
    assert is_sqlite(config) is url.startswith("sqlite")


def test_a_relative_folder_is_that_of_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert database_url(config_with("sqlite:///x.db", Path("conf"))) == f"sqlite:///{tmp_path}/conf/x.db"


def test_the_folder_is_made_when_asked_and_not_before(tmp_path: Path) -> None:
    config = config_with("sqlite:///a/b/x.db", tmp_path)
    database_url(config)
    assert not (tmp_path / "a").exists()
    make_database_folder(config)
    make_database_folder(config)
    assert list((tmp_path / "a/b").iterdir()) == []


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "postgresql://h/d"])
def test_a_database_without_a_file_needs_no_folder(tmp_path: Path, url: str) -> None:
    make_database_folder(config_with(url, tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_the_declarations_are_read_once_however_many_services_there_are(
    load_text: LoadText, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a thousand of them a start, a reload and each change by the write API took a second for it, or four."""
    walks: list[None] = []

    def counted(*, is_wanted: Callable[[tuple[str, ...]], bool] = bool) -> Iterator[Key]:
        walks.append(None)
        return walk(is_wanted=is_wanted)

    monkeypatch.setattr(environment, "walk", counted)
    services = "".join(f'[services.s{number}]\nurl = "http://a"\n' for number in range(20))
    loaded = load_text(services, {"TENTACULO_SERVICES_S7_ABOUT": "x", "TENTACULO_SERVICES_S7_ABUOT": "x"})
    assert loaded.config.services["s7"].about == "x"
    assert any("TENTACULO_SERVICES_S7_ABOUT" in warning for warning in loaded.warnings), "what was meant is proposed"
    assert len(walks) <= 2
