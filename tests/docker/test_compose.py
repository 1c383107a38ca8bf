"""docker/compose.yaml and docker/vx11.toml speak of one and the same fleet, and the image gets what it copies."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from tentaculo.config.layers import changes_path
from tentaculo.config.loader import load
from tentaculo.security.token_file import token_file
from tests.docker.dockerfile import Instruction, parse
from tests.support.gateway_process import ROOT

DOCKER = ROOT / "docker"
COMPOSE: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())
FLEET: dict[str, Any] = tomllib.loads((DOCKER / "vx11.toml").read_text())
GATEWAY = "tentaculo_link"
SERVICES = {name: service for name, service in COMPOSE["services"].items() if name != GATEWAY}


def _aliases(service: dict[str, Any]) -> list[str]:
    aliases: list[str] = service.get("networks", {}).get("default", {}).get("aliases", [])
    return aliases


def test_the_same_services_under_the_same_names() -> None:
    assert set(SERVICES) == set(FLEET["services"])
    assert len(SERVICES) == 9


@pytest.mark.parametrize("name", SERVICES)
def test_each_service_is_where_the_gateway_looks_for_it(name: str) -> None:
    url = urlsplit(FLEET["services"][name]["url"])
    assert (url.scheme, url.hostname) == ("http", name)
    assert SERVICES[name]["expose"] == [str(url.port)]
    assert SERVICES[name]["environment"]["HEALTHCHECK_URL"] == f"http://127.0.0.1:{url.port}/health"
    command = SERVICES[name]["command"]
    assert command[command.index("--only") + 1] == name
    assert _aliases(SERVICES[name]) == FLEET["services"][name].get("aliases", [])


def test_the_gateway_is_known_by_both_its_names_and_published_on_its_port() -> None:
    gateway = COMPOSE["services"][GATEWAY]
    assert set(_aliases(gateway)) == {"tentaculo_link", "tentaculo-link"}
    assert [port.rpartition(":")[2] for port in gateway["ports"]] == [str(FLEET["server"]["port"])]
    assert FLEET["server"]["host"] == "0.0.0.0"
    assert gateway["mem_limit"] == "512m"


def test_the_gateway_has_time_to_end_its_requests() -> None:
    period = COMPOSE["services"][GATEWAY]["stop_grace_period"]
    assert float(period.removesuffix("s")) >= load(DOCKER / "vx11.toml", {}).config.server.grace + 5


def test_only_the_gateway_has_a_port_on_the_host() -> None:
    assert [name for name, service in COMPOSE["services"].items() if "ports" in service] == [GATEWAY]


def test_shubniggurath_is_off_on_purpose() -> None:
    assert [name for name, service in SERVICES.items() if "profiles" in service] == ["shubniggurath"]
    assert FLEET["services"]["shubniggurath"]["enabled"] is False
    assert FLEET["services"]["shubniggurath"]["enabled_env"] in COMPOSE["services"][GATEWAY]["environment"]


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_the_token_comes_from_outside_and_has_no_default(name: str) -> None:
    assert re.fullmatch(r"\$\{TENTACULO_TOKEN:\?[^}]+\}", COMPOSE["services"][name]["environment"]["TENTACULO_TOKEN"])


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_every_container_is_confined(name: str) -> None:
    service = COMPOSE["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["build"] == {"context": "..", "dockerfile": "docker/Dockerfile"}


def _sources() -> list[str]:
    """What the Dockerfile copies from the repository."""
    copies = [i.arguments.split() for i in parse(DOCKER / "Dockerfile") if i.name == "COPY"]
    return [source for words in copies if not words[0].startswith("--from") for source in words[:-1]]


def test_whatever_the_image_copies_exists_and_is_not_ignored() -> None:
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for source in _sources():
        assert (ROOT / source).exists(), source
        assert source in kept
    assert sorted(kept) == sorted(set(_sources()))


def test_nothing_else_reaches_the_build() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"


def _all(name: str) -> list[Instruction]:
    return [instruction for instruction in parse(DOCKER / "Dockerfile") if instruction.name == name]


def test_the_image_is_slim_and_of_two_stages() -> None:
    build, final = _all("FROM")
    assert fnmatch(build.arguments, "python:3.1?-slim AS build")
    assert fnmatch(final.arguments, "python:3.1?-slim")
    assert build.arguments.split()[0] == final.arguments


def test_the_requirements_are_installed_before_the_code_is_copied() -> None:
    steps = [i.arguments for i in parse(DOCKER / "Dockerfile") if i.name in ("COPY", "RUN")]
    installed = next(n for n, step in enumerate(steps) if "-r requirements.txt" in step)
    copied = next(n for n, step in enumerate(steps) if step.startswith("tentaculo "))
    assert installed < copied


def test_the_final_stage_is_not_root_and_installs_nothing() -> None:
    final = list(parse(DOCKER / "Dockerfile"))
    final = final[max(n for n, i in enumerate(final) if i.name == "FROM") :]
    (user,) = [i.arguments for i in final if i.name == "USER"]
    assert int(user.partition(":")[0]) > 0
    after = [i.name for i in final[[i.name for i in final].index("USER") :]]
    assert not {"RUN", "COPY", "ADD"} & set(after)
    assert not [i for i in final if i.name == "RUN" and re.search(r"\b(pip|apt|apt-get|curl|wget)\b", i.arguments)]


def _of_the_image() -> tuple[dict[str, str], str]:
    (volume,) = [i.arguments for i in _all("VOLUME")]
    return dict(word.split("=", 1) for i in _all("ENV") for word in i.words), volume


def _of_the_unit() -> tuple[dict[str, str], str]:
    """Of the unit for systemd, which gives the gateway a user and a folder."""
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    lines = [line.removeprefix("Environment=") for line in text.splitlines() if line.startswith("Environment=")]
    (folder,) = re.findall("(?m)^StateDirectory=(.+)$", text)
    return dict(word.split("=", 1) for line in lines for word in line.split()), f"/var/lib/{folder}"


@pytest.mark.parametrize("deployment", [_of_the_image, _of_the_unit])
def test_what_the_gateway_writes_is_where_it_may_write(deployment: Callable[[], tuple[dict[str, str], str]]) -> None:
    """By default it is in a folder beside the configuration file, which the gateway's user cannot write."""
    environment, folder = deployment()
    config = load(DOCKER / "vx11.toml", environment).config
    assert config.database.url.reveal().startswith(f"sqlite:///{folder}/")
    for written in (token_file(config), changes_path({}, environment, config.folder)):
        assert written.parent == Path(folder)


def test_its_commands_read_the_configuration_that_it_serves() -> None:
    environment = dict(word.split("=", 1) for i in _all("ENV") for word in i.words)
    (cmd,) = _all("CMD")
    assert environment["TENTACULO_CONFIG"] == cmd.words[-1]


def test_how_it_runs() -> None:
    (cmd,) = _all("CMD")
    assert cmd.words == ["tentaculo", "serve", "-c", "/etc/tentaculo/tentaculo.toml"]
    assert [i.arguments for i in _all("EXPOSE")] == ["8000"]
    assert [i.arguments for i in _all("STOPSIGNAL")] == ["SIGTERM"]
    assert [i.arguments for i in _all("VOLUME")] == ["/data"]
    (check,) = _all("HEALTHCHECK")
    assert "healthcheck.py" in check.arguments
    assert "/livez" in (DOCKER / "healthcheck.py").read_text()


def test_no_secret_is_in_the_image() -> None:
    names = [word.partition("=")[0] for i in _all("ENV") + _all("ARG") for word in i.words]
    assert names
    assert not [name for name in names if re.search(r"TOKEN$|SECRET|PASSWORD|KEY$", name)]
    assert "token" not in FLEET.get("auth", {})
    assert not [name for name, service in FLEET["services"].items() if "token" in service]
