"""docker/vx11.toml against the contract's section 1: which service sees which path."""

from __future__ import annotations

from pathlib import Path

import pytest

from tentaculo.config.loader import load
from tentaculo.config.schema import Config
from tentaculo.server.route_table import ProxiedRoutes

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "docker" / "vx11.toml"

PORTS = {
    "madre": 8001,
    "switch": 8002,
    "hermes": 8003,
    "hormiguero": 8004,
    "manifestator": 8005,
    "mcp": 8006,
    "shubniggurath": 8007,
    "spawner": 8008,
    "operator": 8011,
}

HEALTH = {
    "madre": ("/health", "/healthz", "/madre/health"),
    "switch": ("/health", "/healthz", "/switch/health"),
    "hermes": ("/health", "/healthz", "/hermes/health"),
    "hormiguero": ("/health", "/healthz", "/hormiguero/status"),
    "manifestator": ("/health", "/healthz", "/drift"),
    "mcp": ("/health", "/healthz"),
    "shubniggurath": ("/health", "/healthz", "/shub/health"),
    "spawner": ("/health", "/healthz"),
    "operator": ("/health", "/healthz", "/operator/vx11/overview"),
}

PATHS = [
    # madre: /madre/* natively, the leaves at its root
    ("/madre", "madre", "/madre"),
    ("/madre/", "madre", "/madre/"),
    ("/madre/anything/else", "madre", "/madre/anything/else"),
    ("/madre/daughter/42/wait", "madre", "/madre/daughter/42/wait"),
    ("/madre/task", "madre", "/task"),
    ("/madre/task/7", "madre", "/madre/task/7"),
    ("/madre/task/7/cancel", "madre", "/madre/task/7/cancel"),
    ("/madre/tasks", "madre", "/tasks"),
    ("/madre/tasks/7", "madre", "/tasks/7"),
    ("/madre/tasks/active", "madre", "/madre/tasks/active"),
    ("/madre/taskforce", "madre", "/madre/taskforce"),
    ("/madre/child", "madre", "/child"),
    ("/madre/children", "madre", "/madre/children"),
    ("/madre/chat", "madre", "/chat"),
    ("/madre/orchestrate", "madre", "/orchestrate"),
    ("/madre/orchestration/plan/1", "madre", "/orchestration/plan/1"),
    ("/madre/status", "madre", "/status"),
    ("/madre/control", "madre", "/control"),
    ("/madre/metrics/cpu", "madre", "/metrics/cpu"),
    ("/madrecita", None, None),
    # switch
    ("/switch/providers", "switch", "/switch/providers"),
    ("/switch/shub/route", "switch", "/switch/shub/route"),
    ("/switch/metrics", "switch", "/metrics"),
    ("/switch/metrics/tension", "switch", "/metrics/tension"),
    ("/switchboard", None, None),
    # hermes
    ("/hermes/execute", "hermes", "/hermes/execute"),
    ("/hermes/waveform", "hermes", "/waveform"),
    ("/hermes/spectrogram", "hermes", "/spectrogram"),
    # hormiguero: the root, but colonies and its status keep
    ("/hormiguero", "hormiguero", "/"),
    ("/hormiguero/", "hormiguero", "/"),
    ("/hormiguero/scan", "hormiguero", "/scan"),
    ("/hormiguero/report", "hormiguero", "/report"),
    ("/hormiguero/queen/orders/1", "hormiguero", "/queen/orders/1"),
    ("/hormiguero/colony", "hormiguero", "/hormiguero/colony"),
    ("/hormiguero/colony/north", "hormiguero", "/hormiguero/colony/north"),
    ("/hormiguero/colonies", "hormiguero", "/hormiguero/colonies"),
    ("/hormiguero/status", "hormiguero", "/hormiguero/status"),
    # manifestator: the same leaf names twice, the ones below /manifestator win
    ("/manifestator/drift", "manifestator", "/drift"),
    ("/manifestator/patches", "manifestator", "/patches"),
    ("/manifestator/apply-patch", "manifestator", "/apply-patch"),
    ("/manifestator/detect-drift", "manifestator", "/detect-drift"),
    ("/manifestator/repair", "manifestator", "/repair"),
    ("/manifestator/control", "manifestator", "/control"),
    ("/manifestator/metrics/drift", "manifestator", "/metrics/drift"),
    ("/manifestator/dsl/parse", "manifestator", "/manifestator/dsl/parse"),
    ("/manifestator/scan-drift", "manifestator", "/manifestator/scan-drift"),
    ("/manifestator/generate-patch", "manifestator", "/manifestator/generate-patch"),
    ("/manifestator/validate-patch", "manifestator", "/manifestator/validate-patch"),
    ("/manifestator/apply-patch-v2", "manifestator", "/manifestator/apply-patch-v2"),
    ("/manifestator/semantic-validate", "manifestator", "/manifestator/semantic-validate"),
    # mcp
    ("/mcp", "mcp", "/mcp"),
    ("/mcp/tools", "mcp", "/mcp/tools"),
    # shubniggurath, by its alias as ever
    ("/shub/execute", "shubniggurath", "/shub/execute"),
    ("/shub/madre/upload", "shubniggurath", "/shub/madre/upload"),
    ("/shub/status", "shubniggurath", "/status"),
    ("/shub/ready", "shubniggurath", "/ready"),
    ("/shub/api/v1/jobs", "shubniggurath", "/api/v1/jobs"),
    # spawner keeps both of its prefixes
    ("/spawn", "spawner", "/spawn"),
    ("/spawn/child-1", "spawner", "/spawn/child-1"),
    ("/spawner/children", "spawner", "/spawner/children"),
    # operator
    ("/operator/chat", "operator", "/operator/chat"),
    ("/operator/vx11/overview", "operator", "/operator/vx11/overview"),
    ("/operator/intent", "operator", "/intent"),
    ("/intent", "operator", "/intent"),
    ("/ws/session-1", "operator", "/ws/session-1"),
    ("/operator/ws/session-1", "operator", "/ws/session-1"),
    # bytes stay as they are
    ("/madre/tasks/a%2Fb%20c;d", "madre", "/tasks/a%2Fb%20c;d"),
    ("/MADRE/tasks", None, None),
    ("/", None, None),
    ("/nowhere", None, None),
]


@pytest.fixture(scope="module")
def config() -> Config:
    loaded = load(FILE, {})
    assert loaded.warnings == ()
    return loaded.config


@pytest.mark.parametrize(("path", "service", "upstream_path"), PATHS, ids=[path for path, _, _ in PATHS])
def test_a_path_reaches_its_service(config: Config, path: str, service: str | None, upstream_path: str | None) -> None:
    match = ProxiedRoutes(config).match("localhost", path)
    assert (None if match is None else (match.service, match.upstream_path(path))) == (
        None if service is None else (service, upstream_path)
    )


@pytest.mark.parametrize(
    ("path", "seconds", "at_least"),
    [
        ("/madre/daughter/42/wait", 310, 300),
        ("/switch/shub/route", 70, 60),
        ("/spawn/x", 90, 60),
        ("/spawner/x", 90, 60),
        ("/operator/chat", 60, 30),
        ("/intent", 60, 30),
        ("/shub/madre/audio", 120, 119),
        ("/shub/api/x", 120, 119),
        ("/madre/tasks", None, 0),
    ],
)
def test_long_calls_have_their_time(config: Config, path: str, seconds: float | None, at_least: float) -> None:
    match = ProxiedRoutes(config).match("localhost", path)
    assert match is not None
    assert match.route.timeout == seconds
    assert (seconds or config.limits.first_byte) > at_least


def test_the_fleet_is_the_contracts(config: Config) -> None:
    assert {name: service.upstreams[0].port for name, service in config.services.items()} == PORTS
    assert {name: service.upstreams[0].host for name, service in config.services.items()} == {n: n for n in PORTS}
    assert {name: service.health for name, service in config.services.items()} == HEALTH
    assert {name: service.aliases for name, service in config.services.items() if service.aliases} == {
        "shubniggurath": ("shub",),
        "operator": ("operator-backend", "operator_backend"),
    }
    assert config.limits.body == 0, "uploads of any size"
    assert {route.max_body for service in config.services.values() for route in service.routes} <= {None, 0}
    assert {route.auth for service in config.services.values() for route in service.routes} == {"token"}


@pytest.mark.parametrize(("value", "enabled"), [(None, False), ("true", True), ("false", False)])
def test_shubniggurath_is_off_unless_it_is_asked_for(value: str | None, enabled: bool) -> None:
    config = load(FILE, {} if value is None else {"SHUB_ENABLED": value}).config
    assert [name for name, service in config.services.items() if not service.enabled] == (
        [] if enabled else ["shubniggurath"]
    )


def test_the_same_file_serves_one_host() -> None:
    environ = {f"TENTACULO_SERVICES_{name.upper()}_URL": f"http://127.0.0.1:{port}" for name, port in PORTS.items()}
    loaded = load(FILE, environ)
    assert loaded.warnings == ()
    assert {str(service.upstreams[0]) for service in loaded.config.services.values()} == set(environ.values())


def test_the_operator_depends_on_the_router_and_nothing_else_on_anything() -> None:
    services = load(FILE, {}).config.services
    assert {name: service.depends_on for name, service in services.items() if service.depends_on} == {
        "operator": ("switch",)
    }
