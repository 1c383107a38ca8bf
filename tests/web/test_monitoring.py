"""`/livez`, `/readyz`, `/metrics` and `/vx11/heartbeat` on a real socket."""

from __future__ import annotations

import asyncio
import shutil
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from aiohttp import ClientSession, web
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.parser import text_string_to_metric_families

from tentaculo.model.health import ConcurrencyView, Counts, Endpoint, EndpointView, Health
from tentaculo.model.history import RouteKey
from tentaculo.model.request_phases import PhaseCounts, Phases
from tentaculo.server.listeners import Phase
from tentaculo.server.native_routes import Slices
from tentaculo.web import metrics as metrics_module
from tentaculo.web import monitoring
from tentaculo.web.metrics import GatewayMetrics, MetricsCache
from tentaculo.web.metrics_sources import AlertStats, Load, ReloadView
from tests.support.native_gateway import CLOSED, Gateway, view
from tests.support.needs import need
from tests.support.server import serving_application


async def test_livez(gateway: Gateway) -> None:
    gateway.state.phase, gateway.state.lost = Phase.DRAINING, "The database file x.db is read-only."
    async with gateway.client.get("/livez") as answer:
        assert (answer.status, await answer.json()) == (200, {"status": "alive"})


@pytest.mark.parametrize(("phase", "status"), [(Phase.STARTING, 503), (Phase.READY, 200), (Phase.DRAINING, 503)])
async def test_readyz_follows_the_process(gateway: Gateway, phase: Phase, status: int) -> None:
    gateway.state.phase = phase
    async with gateway.client.get("/readyz") as answer:
        assert answer.status == status
        assert await answer.json() == {
            "status": phase.value,
            "checks": {
                "process": {"status": "ok" if phase is Phase.READY else phase.value},
                "database": {"status": "ok"},
                "runtime_table": {"status": "ok"},
            },
        }


async def test_a_lost_database_is_named_and_leaves_it_ready(gateway: Gateway) -> None:
    gateway.state.lost = "The database file x.db is read-only."
    async with gateway.client.get("/readyz") as answer:
        assert answer.status == 200
        assert (await answer.json())["checks"]["database"] == {
            "status": "failed",
            "problem": "The database file x.db is read-only.",
        }


async def test_a_table_of_services_that_cannot_be_written_is_named(gateway: Gateway) -> None:
    gateway.state.odd_table = "copilot_runtime_services is not a table but a view."
    async with gateway.client.get("/readyz") as answer:
        assert answer.status == 200
        checks = (await answer.json())["checks"]
    assert checks["database"] == {"status": "ok"}
    assert checks["runtime_table"] == {"status": "failed", "problem": gateway.state.odd_table}


TOKEN = "right-token"
JSON = {"Content-Type": "application/json"}

Heard = list[tuple[str, bytes]]


@pytest.fixture
def heard() -> Heard:
    return []


@pytest.fixture
async def client(heard: Heard) -> AsyncIterator[ClientSession]:
    app = web.Application()
    names = {"cron": "cron", "night-job": "cron", "off": "off"}

    def beat(service: str, said: bytes) -> bool:
        heard.append((service, said))
        return service != "off"

    app.add_routes(monitoring.heartbeat_routes(names, beat))
    headers = {"X-VX11-Token": TOKEN}
    async with (
        serving_application(app, token=TOKEN) as served,
        ClientSession(f"http://{served.host}:{served.port}", headers=headers) as session,
    ):
        yield session


@pytest.mark.parametrize("name", ["cron", "night-job"])
@pytest.mark.parametrize(
    "said", [b"", b'{"status": "ok"}', b'{"status": "warn", "message": "late", "queue": {"a": 1}}']
)
async def test_it_is_taken(client: ClientSession, heard: Heard, name: str, said: bytes) -> None:
    async with client.post(f"/vx11/heartbeat/{name}", data=said, headers=JSON) as answer:
        assert answer.status == 200
        assert await answer.json() == {"status": "received", "service": "cron"}
    assert heard == [("cron", said)]


async def test_one_of_a_service_that_is_off_is_no_error_of_its_sender(client: ClientSession) -> None:
    async with client.post("/vx11/heartbeat/off", data=b"{}", headers=JSON) as answer:
        assert (answer.status, await answer.json()) == (200, {"status": "ignored", "service": "off"})


@pytest.mark.parametrize(
    ("said", "media_type", "status"),
    [
        (b"[]", "application/json", 400),
        (b'"ok"', "application/json", 400),
        (b"{", "application/json", 400),
        (b'{"status": 7}', "application/json", 400),
        (b'{"message": ["x"]}', "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b"[" * 3000, "application/json", 400),
        (b'{"message": "' + b"x" * 5000 + b'"}', "application/json", 413),
        (b'{"message": "' + b"x" * 900_000 + b'"}', "application/json", 413),
        (b'{"status": "ok"}', "text/plain", 415),
        (b"status=ok", "application/x-www-form-urlencoded", 415),
    ],
)
async def test_anything_else_is_refused(
    client: ClientSession, heard: Heard, said: bytes, media_type: str, status: int
) -> None:
    async with client.post("/vx11/heartbeat/cron", data=said, headers={"Content-Type": media_type}) as answer:
        assert (answer.status, answer.content_type) == (status, "application/problem+json")
    assert heard == []


async def test_only_who_has_the_token_and_only_by_post(client: ClientSession, heard: Heard) -> None:
    async with client.post("/vx11/heartbeat/cron", headers={"X-VX11-Token": "wrong"}) as answer:
        assert answer.status == 403
    async with client.get("/vx11/heartbeat/cron") as answer:
        assert answer.status == 405
    async with client.post("/vx11/heartbeat/madre") as answer:
        assert answer.status == 404
    assert heard == []


async def scrape(client: ClientSession) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    async with client.get("/metrics") as answer:
        assert answer.status == 200
        assert answer.content_type == "text/plain"
        text = await answer.text()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def nobody() -> AlertStats:
    return AlertStats(0, {})


def idle() -> Load:
    return Load(0, 0, 0)


def labels(**values: str) -> frozenset[tuple[str, str]]:
    return frozenset(values.items())


async def test_metrics_say_what_the_board_says(gateway: Gateway) -> None:
    found = await scrape(gateway.client)
    health = "tentaculo_service_health"
    assert found[health, labels(service="hermes", health="down")] == 1
    assert found[health, labels(service="hermes", health="up")] == 0
    for name in ("madre", "switch", "shubniggurath"):
        assert sum(found[health, labels(service=name, health=one.value)] for one in Health) == 1
    assert found["tentaculo_service_latency_seconds", labels(service="madre")] == 0.004
    assert ("tentaculo_service_latency_seconds", labels(service="hermes")) not in found
    assert found["tentaculo_breaker_open", labels(service="mcp")] == 1
    assert found["tentaculo_breaker_open", labels(service="madre")] == 0
    assert found["tentaculo_store_dropped_total", labels()] == 7
    assert found["tentaculo_store_up", labels()] == 1
    assert found["tentaculo_requests_total", labels(service="madre", status_class="2xx")] == 41
    assert found["tentaculo_request_seconds_total", labels(service="madre", status_class="5xx")] == 0.25
    assert found["tentaculo_connections_open", labels()] == 12
    assert found["tentaculo_requests_in_flight", labels()] == 5
    assert found["tentaculo_tasks", labels()] == 20
    assert found["tentaculo_hedges_total", labels(service="madre", result="won")] == 2
    assert found["tentaculo_hedges_total", labels(service="madre", result="lost")] == 3
    assert found["process_resident_memory_bytes", labels()] > 1_000_000


async def test_probes_and_requests_are_counted_apart_and_roots_are_named(gateway: Gateway) -> None:
    seen = EndpointView(Endpoint("operator", "a", 1), Health.DOWN, CLOSED, Counts(812, 3), Counts(4000, 31))
    gateway.state.services = (view("operator", health=Health.DOWN, root="switch", upstreams=(seen,)), view("switch"))
    found = await scrape(gateway.client)
    numbers = {"tentaculo_probes_total": (812, 3), "tentaculo_upstream_requests_total": (4000, 31)}
    for name, (ok, failed) in numbers.items():
        assert found[name, labels(service="operator", result="ok")] == ok
        assert found[name, labels(service="operator", result="failed")] == failed
    affected = {key: value for key, value in found.items() if key[0] == "tentaculo_service_affected"}
    assert affected == {("tentaculo_service_affected", labels(service="operator", root="switch")): 1}


async def test_the_concurrency_of_a_service(gateway: Gateway) -> None:
    gateway.state.concurrency = {"madre": ConcurrencyView(12, 9, 40, 3), "switch": ConcurrencyView(None, 1, 0, 0)}
    found = await scrape(gateway.client)
    for name, values in {"madre": (12, 9, 40), "switch": (float("inf"), 1, 0)}.items():
        named = ("tentaculo_concurrency_limit", "tentaculo_concurrency_in_flight", "tentaculo_requests_shed_total")
        assert tuple(found[one, labels(service=name)] for one in named) == values
    assert ("tentaculo_concurrency_limit", labels(service="hermes")) not in found, "it is off there"


async def test_phases_are_histograms_of_seconds() -> None:
    first_byte = PhaseCounts()
    for seconds in (0.004, 0.3, 99.0):
        first_byte.add(seconds)
    phases = [PhaseCounts(), PhaseCounts(), first_byte, PhaseCounts()]
    gateway = GatewayMetrics(
        views=tuple,
        store_problem=lambda: None,
        dropped=int,
        traffic=tuple,
        phases=lambda: [(RouteKey("madre", "/a"), phases)],
        hedges=tuple,
        load=idle,
        alert_stats=nobody,
        reload=lambda: ReloadView(1, True, 0.0),
    )
    text, _ = await MetricsCache(gateway.families, Slices()).text("")
    found = {
        (sample.name.removeprefix("tentaculo_request_phase_seconds_"), sample.labels.get("le")): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
        if sample.labels.get("phase") == "first_byte" and sample.labels["route"] == "/a"
    }
    assert found["count", None] == 3
    assert found["sum", None] == pytest.approx(99.304)
    assert [found["bucket", bound] for bound in ("0.005", "0.25", "0.5", "10.0", "+Inf")] == [1, 1, 2, 2, 3]


async def test_labels_are_escaped(gateway: Gateway) -> None:
    name = 'a"b\\c\nd{} 1\ninjected 1'
    gateway.state.services = (view(name),)
    found = await scrape(gateway.client)
    assert found["tentaculo_breaker_open", labels(service=name)] == 0
    assert not [key for key in found if key[0] == "injected"]


async def test_openmetrics_is_spoken_where_it_is_asked_for(gateway: Gateway) -> None:
    accept = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"
    async with gateway.client.get("/metrics", headers={"Accept": accept}) as answer:
        assert answer.content_type == "application/openmetrics-text"
        assert (await answer.text()).endswith("# EOF\n")


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("application/openmetrics-text;q=0", "text/plain"),
        ("application/openmetrics-text;version=1.0.0;q=0.2, text/plain", "text/plain"),
        ("application/openmetrics-text;q=0.2, */*;q=0.5", "text/plain"),
        ("text/plain;q=0.2, application/openmetrics-text;version=1.0.0;q=0.3", "application/openmetrics-text"),
        ("text/plain;version=1.0.0;q=0.2, application/openmetrics-text", "application/openmetrics-text"),
        ("image/png, application/openmetrics-text;q=0.1", "application/openmetrics-text"),
        ("image/png", "text/plain"),
    ],
)
async def test_the_weights_of_accept_choose_the_format(gateway: Gateway, accept: str, content_type: str) -> None:
    async with gateway.client.get("/metrics", headers={"Accept": accept}) as answer:
        assert answer.content_type == content_type
    lines = [("Accept", one) for one in accept.split(", ")]
    async with gateway.client.get("/metrics", headers=lines) as answer:
        assert answer.content_type == content_type


def metrics(dropped: Callable[[], int] = int) -> GatewayMetrics:
    return GatewayMetrics(
        views=tuple,
        store_problem=lambda: None,
        dropped=dropped,
        traffic=tuple,
        phases=tuple,
        hedges=tuple,
        load=idle,
        alert_stats=nobody,
        reload=lambda: ReloadView(1, True, 0.0),
    )


@pytest.mark.parametrize("version", ["1.x", "\N{FULLWIDTH DIGIT ONE}", "1.0.0\udcff", "", "9" * 5000])
async def test_a_senseless_version_is_answered_all_the_same(version: str) -> None:
    cache = MetricsCache(tuple, Slices())
    text, content_type = await cache.text(f"application/openmetrics-text;version={version}")
    assert isinstance(text, bytes)
    assert content_type.isascii()


async def test_a_flood_of_scrapes_costs_one_a_second() -> None:
    read, now = 0, 100.0

    def dropped() -> int:
        nonlocal read
        read += 1
        return read

    cache = MetricsCache(metrics(dropped).families, Slices(), clock=lambda: now)
    first = await cache.text("")
    assert await asyncio.gather(*(cache.text("") for _ in range(50))) == [first] * 50
    assert read == 1
    now += 1.0
    assert await cache.text("") != first
    assert read == 2


async def test_a_flood_of_formats_is_bounded_too() -> None:
    made = 0

    def dropped() -> int:
        nonlocal made
        made += 1
        return made

    cache = MetricsCache(metrics(dropped).families, Slices(), clock=lambda: 100.0)
    for number in range(50):
        text, content_type = await cache.text(f"application/openmetrics-text;version=1.0.{number}")
        assert text.endswith(b"# EOF\n") is content_type.startswith("application/openmetrics-text")
    assert made <= 5


@pytest.mark.parametrize("accept", ["", "application/openmetrics-text;version=1.0.0"])
async def test_parts_of_a_family_are_rendered_as_the_whole(monkeypatch: pytest.MonkeyPatch, accept: str) -> None:
    encode, _ = choose_encoder(accept)
    fleet = GatewayMetrics(
        views=lambda: [view("madre"), view("hermes", 8003, Health.DOWN)],
        store_problem=lambda: None,
        dropped=int,
        traffic=lambda: [("madre", "2xx", 3, 0.5), ("", "4xx", 1, 0.25)],
        phases=lambda: [(RouteKey("madre", "/a"), [PhaseCounts() for _ in Phases._fields])] * 4,
        hedges=tuple,
        load=idle,
        alert_stats=lambda: AlertStats(1, {"duty": (1, 2, 3)}),
        reload=lambda: ReloadView(3, False, 1_700_000_000.5),
    )

    class Whole:
        def collect(self) -> Iterator[Metric]:
            return (family for family in fleet.families() if family is not None)

    monkeypatch.setattr(metrics_module, "_SAMPLES", 2)
    text, _ = await MetricsCache(fleet.families, Slices()).text(accept)
    assert text == encode(Whole())


async def test_it_shows_which_configuration_is_served(gateway: Gateway) -> None:
    found = await scrape(gateway.client)
    assert found["tentaculo_config_generation", labels()] == 3
    assert found["tentaculo_config_last_reload_successful", labels()] == 0
    assert found["tentaculo_config_last_reload_timestamp_seconds", labels()] == 1_700_000_000.5


async def test_promtool_has_no_objection(gateway: Gateway) -> None:
    promtool = shutil.which("promtool")
    need(promtool, "promtool (Debian: prometheus)")
    async with gateway.client.get("/metrics") as answer:
        text = await answer.read()
    checking = await asyncio.create_subprocess_exec(
        *(str(promtool), "check", "metrics"), stdin=PIPE, stdout=PIPE, stderr=STDOUT
    )
    said, _ = await checking.communicate(text)
    assert (checking.returncode, said) == (0, b"")


async def test_each_service_has_its_series_before_its_first_request(gateway: Gateway) -> None:
    gateway.state.services = (view("madre"), view("newcomer"))
    found = await scrape(gateway.client)
    for status_class in ("2xx", "3xx", "4xx", "5xx"):
        for name in ("tentaculo_requests_total", "tentaculo_request_seconds_total"):
            assert found[name, labels(service="newcomer", status_class=status_class)] == 0
            assert (name, labels(service="", status_class=status_class)) in found
    assert found["tentaculo_requests_total", labels(service="madre", status_class="2xx")] == 41
