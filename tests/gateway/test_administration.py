"""The write API over HTTP: what each request does to the layer of changes, its file, and what is served."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web

from tentaculo.config.change_layer import ChangeLayer, TimedOverride, read_layer, write_layer
from tentaculo.config.comparison import Changes, compare, digest
from tentaculo.config.layers import Sources
from tentaculo.config.loader import load_usable
from tentaculo.config.masking import MASK
from tentaculo.config.schema import Config
from tentaculo.gateway.administration import ChangesTable, ConfigurationAdministration
from tentaculo.gateway.configuration_source import Candidate, ConfigurationSource
from tentaculo.gateway.layer_keeper import Adoption
from tentaculo.gateway.layer_reloads import LayerReloads
from tentaculo.gateway.reloading import Reloader, ReloadFailedError
from tentaculo.health.steady_clock import time_since_boot
from tentaculo.model.failure import Failure, Problem
from tentaculo.model.text import utc_now
from tentaculo.tasks import TaskGroup
from tentaculo.web import admin
from tests.support.config import SECRET
from tests.support.server import serving_application
from tests.support.waits import eventually

FILE = f"""
[services.madre]
url = "http://127.0.0.1:8001"
token = "{SECRET}"
routes = [{{ prefix = "/madre" }}]
[services.shub]
url = "http://127.0.0.1:8002"
enabled = false
enabled_env = "SHUB_ON"
"""
BASE = "/tentaculo/admin"
ADMIN_TOKEN = "the-token"
ANY = {"If-Match": "*"}


@dataclass
class Served:
    """What serves configurations: it keeps the last one, and may fail."""

    config: Config
    by: list[str] = field(default_factory=list)
    problem: str = ""
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    may_serve: asyncio.Event = field(default_factory=asyncio.Event)
    """Set unless a change is to be held before it is served."""

    def __post_init__(self) -> None:
        self.may_serve.set()

    async def apply(self, candidate: Candidate, by: str, _number: int) -> Changes:
        self.reached.set()
        await self.may_serve.wait()
        if self.problem:
            raise ReloadFailedError(self.problem)
        changes = compare(self.config, candidate.config)
        self.config = candidate.config
        self.by.append(by)
        return changes


@dataclass
class Running:
    """A write API that takes requests."""

    client: ClientSession
    served: Served
    reloader: Reloader
    events: list[dict[str, Any]]
    file: Path
    changes: Path
    administration: ConfigurationAdministration
    layers: LayerReloads

    async def send(
        self, method: str, path: str, body: Any = None, *, status: int = 200, headers: Mapping[str, str] = ANY
    ) -> Any:
        data = None if body is None else json.dumps(body)
        given = {"X-VX11-Token": ADMIN_TOKEN, **({"Content-Type": "application/json"} if data else {}), **headers}
        async with self.client.request(method, BASE + path, data=data, headers=given) as response:
            text = await response.text()
            assert response.status == status, text
            assert SECRET not in text
            return json.loads(text)

    async def generation(self) -> str:
        return str((await self.send("GET", "/config"))["generation"])

    @property
    def services(self) -> Mapping[str, Any]:
        return self.served.config.services


@asynccontextmanager
async def running(
    folder: Path,
    *,
    now: Callable[[], datetime] = utc_now,
    elapsed: Callable[[], float] = time_since_boot,
    table: ChangesTable | None = None,
) -> AsyncIterator[Running]:
    """A write API over the configuration in `folder`; `table` is what it shares with other machines."""
    file = folder / "tentaculo.toml"
    if not file.exists():
        file.write_text(FILE)
    source = ConfigurationSource(file)
    source.spare_hashes = ("hash",)
    loaded = source.load(load_usable)
    served = Served(loaded.config)
    events: list[dict[str, Any]] = []
    reloader = Reloader(source)
    layers = LayerReloads(source, reloader, loaded.sources, now=now, elapsed=elapsed)
    reloader.open(served.apply, watch=False)
    layers.open()
    administration = ConfigurationAdministration(
        layers,
        lambda: digest(served.config, ["hash"]),
        now=now,
        record=lambda type_, **members: events.append({"type": type_, **members}),
        table=table,
    )
    app = web.Application()
    app.add_routes(admin.routes(administration, lambda request: "ana", lambda request: None))
    async with (
        serving_application(app, token=ADMIN_TOKEN, scopes=("admin",)) as server,
        ClientSession(f"http://{server.host}:{server.port}") as client,
    ):
        try:
            yield Running(
                client, served, reloader, events, file, folder / "data" / "changes.json", administration, layers
            )
        finally:
            await layers.close()
            await reloader.close()


@pytest.fixture
async def live(tmp_path: Path) -> AsyncIterator[Running]:
    async with running(tmp_path) as found:
        yield found


async def test_the_configuration_is_shown_with_its_sources_and_without_secrets(live: Running) -> None:
    shown = await live.send("GET", "/config")
    assert shown["config"]["services"]["madre"]["token"] == MASK
    assert shown["from"]["services.madre.url"] == "file"
    assert (shown["revision"], shown["changes"], shown["overrides"], shown["not_applied"]) == (0, {}, {}, [])
    one = await live.send("GET", "/services/madre")
    assert one["endpoints"] == [{"url": "http://127.0.0.1:8001"}]
    await live.send("GET", "/services/nobody", status=404)


async def test_a_service_is_added_changed_and_removed(live: Running) -> None:
    before = await live.generation()
    new = {"url": "http://127.0.0.1:9", "routes": [{"prefix": "/new"}]}
    made = await live.send("PUT", "/services/new", new, headers={"If-Match": f'"{before}"'})
    assert (made["revision"], made["changed"], made["changes"]["added"]) == (1, True, ["new"])
    assert made["generation"] == await live.generation() != before
    assert made["keys"] == ["services.new.url", "services.new.routes"]
    assert [route.prefix for route in live.services["new"].routes] == ["/new"]
    patched = await live.send("PATCH", "/services/new", {"about": "x", "routes": None})
    assert set(patched["keys"]) == {"services.new.about", "services.new.routes"}
    assert live.services["new"].about == "x"
    merge = {"Content-Type": "application/merge-patch+json"}
    await live.send("PATCH", "/services/new", {"about": None}, headers={**ANY, **merge})
    assert live.services["new"].about is None
    await live.send("DELETE", "/services/new")
    assert set(live.services) == {"madre", "shub"}
    await live.send("DELETE", "/services/new", status=404)
    assert live.served.by == ["write API (ana)"] * 4


@pytest.mark.parametrize("path", ["/services/new", "/alerts/webhooks/new"])
async def test_a_new_thing_without_an_address_is_refused(live: Running, path: str) -> None:
    """It was kept and had no effect, as a change to a part of something that the file no longer has."""
    place = path.strip("/").replace("/", ".")
    refused = await live.send("PUT", path, {}, status=422)
    assert {fault["path"] for fault in refused["faults"]} & {place, f"{place}.url"}
    refused = await live.send("PUT", path, {"unheard_of": 1}, status=422)
    assert f"{place}.unheard_of" in {fault["path"] for fault in refused["faults"]}
    assert len(refused["faults"]) > 1
    assert not live.changes.exists()


async def test_what_changes_nothing_is_no_change(live: Running) -> None:
    config = (await live.send("GET", "/services/madre"))["config"]
    same = await live.send("PUT", "/services/madre", config)
    assert (same["changed"], same["keys"]) == (False, [])
    assert not live.changes.exists()
    assert live.events == []


async def test_routes_endpoints_channels_and_plans(live: Running) -> None:
    await live.send("POST", "/services/madre/routes", {"prefix": "/m"}, status=201)
    await live.send("DELETE", "/services/madre/routes/0")
    assert [route.prefix for route in live.services["madre"].routes] == ["/m"]
    await live.send("PUT", "/services/madre/routes", [])
    assert live.services["madre"].routes == ()
    await live.send("POST", "/services/madre/endpoints", {"url": "http://127.0.0.1:2", "weight": 3}, status=201)
    assert live.services["madre"].shares == (1, 3)
    await live.send("DELETE", "/services/madre/endpoints/0")
    await live.send("DELETE", "/services/madre/endpoints/7", status=404)
    await live.send("PUT", "/services/madre/endpoints", [{"url": "http://127.0.0.1:5"}])
    assert live.services["madre"].addresses == ("http://127.0.0.1:5",)
    hook = {"url": f"https://example.org/{SECRET}", "secrets": ["whsec_" + 32 * "A"]}
    await live.send("PUT", "/alerts/webhooks/ops", hook)
    await live.send("PATCH", "/alerts/webhooks/ops", {"timeout": 3})
    assert live.served.config.alerts.webhooks["ops"].timeout == 3
    await live.send("PUT", "/alerts/apprise/phone", {"url": f"tgram://{SECRET}/1"})
    await live.send("PUT", "/alerts/apprise/phone", {"address": "x"}, status=422)
    await live.send("POST", "/maintenance", {"services": ["*"], "at": "02:00-03:00"}, status=201)
    assert len(live.served.config.maintenance) == 1
    for path in ("/maintenance/0", "/alerts/webhooks/ops", "/alerts/apprise/phone"):
        await live.send("DELETE", path)
    assert live.served.config.alerts.webhooks == {}


async def test_a_concurrent_change_is_refused(live: Running) -> None:
    before = {"If-Match": f'"{await live.generation()}"'}
    await live.send("PATCH", "/services/madre", {"about": "first"}, headers=before)
    refused = await live.send("PATCH", "/services/madre", {"about": "second"}, headers=before, status=412)
    assert (refused["error"], refused["generation"]) == ("generation_changed", await live.generation())
    assert live.services["madre"].about == "first"
    for headers in ({}, {"If-Match": ""}):
        found = await live.send(
            "PATCH", "/services/madre", {"about": "x"}, headers=headers, status=428 if not headers else 412
        )
        assert found["error"] == ("if_match_required" if not headers else "generation_changed")
    weak = {"If-Match": f'W/"{await live.generation()}"'}
    await live.send("PATCH", "/services/madre", {"about": "x"}, headers=weak, status=412)
    several = {"If-Match": f'"other", "{await live.generation()}"'}
    await live.send("PATCH", "/services/madre", {"about": "x"}, headers=several)


async def test_many_changes_at_once_are_all_made(live: Running) -> None:
    names = [f"n{number}" for number in range(8)]
    await asyncio.gather(*(live.send("PUT", f"/services/{name}", {"url": "http://127.0.0.1:9"}) for name in names))
    assert {*names} <= set(live.services)
    assert read_layer(live.changes).revision == 8


async def test_all_faults_at_once_and_nothing_is_changed(live: Running) -> None:
    before = await live.generation()
    new = {"url": "ftp://h", "abuot": 1, "depends_on": ["nobody"], "token_file": "/etc/shadow", "enabled": "yes"}
    refused = await live.send("PUT", "/services/new", new, status=422)
    assert refused["error"] == "configuration_rejected"
    keys = [fault["path"] for fault in refused["faults"]]
    assert keys == [f"services.new.{key}" for key in ("token_file", "abuot", "depends_on[0]", "enabled", "url")]
    del new["token_file"]
    refused = await live.send("PUT", "/services/new", {**new, "token": MASK}, status=422)
    keys = [fault["path"] for fault in refused["faults"]]
    assert keys == [f"services.new.{key}" for key in ("token", "abuot", "depends_on[0]", "enabled", "url")]
    endpoint = {"url": "ftp://h", "weight": 0, "port": 1}
    refused = await live.send("POST", "/services/madre/endpoints", endpoint, status=422)
    keys = [fault["path"] for fault in refused["faults"]]
    assert sorted(keys) == [f"services.madre.endpoints[1].{key}" for key in ("port", "url", "weight")]
    for channel in ({"URL": "json://h", "x": 1}, {"URL": "json://h", "x": 1, "url": None}):
        refused = await live.send("PUT", "/alerts/apprise/duty", channel, status=422)
        assert [fault["path"] for fault in refused["faults"]] == ["URL", "x", "url"]
    refused = await live.send("PUT", "/alerts/apprise/duty", {"url": "no address", "x": 1}, status=422)
    assert [fault["path"] for fault in refused["faults"]] == ["x", "alerts.apprise.duty"]
    refused = await live.send("PUT", "/alerts/apprise/duty", {"url": MASK, "x": 1}, status=422)
    assert [fault["path"] for fault in refused["faults"]] == ["x", "alerts.apprise.duty"]
    assert await live.generation() == before
    assert not live.changes.exists()
    bad = await live.send("POST", "/services/madre/disable", {"for": "1w", "reason": 3, "until": "x"}, status=422)
    assert [fault["path"] for fault in bad["faults"]] == ["until", "for", "reason"]


MAKES_NEW = ("PUT /services/{name}", "PUT /alerts/webhooks/{name}", "PUT /alerts/apprise/{name}")
"""What makes a thing that is not there."""
LISTS = ("PUT /maintenance", "PUT /services/{name}/routes", "PUT /services/{name}/endpoints")


def changing_paths() -> list[str]:
    """Method and path of all that a change can be asked for."""
    routes = admin.routes(None, lambda request: "", lambda request: None)  # type: ignore[arg-type]
    return [f"{one.method} {one.path.removeprefix(BASE)}" for one in routes if one.method != "GET"]


async def test_what_is_not_there_is_said_before_the_faults_of_a_body(live: Running) -> None:
    """Some paths told the faults of the body, some the missing service, and one neither."""
    without_name = {"POST /maintenance", "PUT /maintenance", "DELETE /changes"}
    for one in sorted({*changing_paths()} - {*MAKES_NEW, *without_name}):
        method, path = one.split()
        path = path.replace("{name}", "nobody").replace("{number}", "x")
        faulty: Any = [{"unheard_of": 1}] if one in LISTS else {"unheard_of": 1, "for": "1w", "url": "ftp://h"}
        body = None if method == "DELETE" or path.endswith("/undo") else faulty
        found = await live.send(method, path, body, status=404)
        assert found["error"] == "not_found", one
        # Which generation a change is for comes before what is in it, and how it is asked for before both.
        await live.send(method, path, body, status=412, headers={"If-Match": '"other"'})
        await live.send(method, path, body, status=428, headers={})
    for one in MAKES_NEW:
        method, path = one.split()
        await live.send(method, path.replace("{name}", "new"), {"unheard_of": 1}, status=422)
    assert not live.changes.exists()


async def test_an_alias_is_named_also_where_changes_are_taken_back(live: Running) -> None:
    await live.send("PATCH", "/services/madre", {"aliases": ["mother"]})
    found = await live.send("POST", "/services/mother/undo", status=404)
    assert found["detail"] == "There is no such service. mother is an alias of madre."
    assert (await live.send("POST", "/services/shub/undo"))["changed"] is False
    await live.send("DELETE", "/services/shub")
    await live.send("POST", "/services/shub/undo")
    assert "shub" in live.services


async def test_starting_over_mends_a_file_that_was_broken_before_any_change(live: Running) -> None:
    """It said that nothing was changed, and every later change failed."""
    live.changes.parent.mkdir(exist_ok=True)
    live.changes.write_text("broken")
    await live.send("PATCH", "/services/madre", {"about": "x"}, status=409)
    made = await live.send("DELETE", "/changes")
    assert (made["changed"], made["keys"]) == (True, [])
    assert live.events[-1]["subject"] == "everything"
    await live.send("PATCH", "/services/madre", {"about": "x"})
    await live.send("DELETE", "/changes")
    assert (await live.send("DELETE", "/changes"))["changed"] is False
    # What can be read may be wanted: it is reloaded first.
    write_layer(live.changes, ChangeLayer(7, changes={"services": {"madre": {"about": "by hand"}}}))
    await live.send("DELETE", "/changes", status=409)
    assert read_layer(live.changes).revision == 7


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        ("[]", {}, 400),
        ("{", {}, 400),
        ('"x"', {}, 400),
        ("{}", {"Content-Type": "text/plain"}, 415),
        ("{}", {"Content-Encoding": "gzip"}, 415),
        ('{"a": "' + 70_000 * "x" + '"}', {}, 413),
        ("[" * 50_000, {}, 400),
    ],
)
async def test_bodies_that_cannot_be_read(live: Running, body: str, headers: dict[str, str], status: int) -> None:
    given = {"X-VX11-Token": ADMIN_TOKEN, "Content-Type": "application/json", "If-Match": "*", **headers}
    async with live.client.put(f"{BASE}/services/new", data=body, headers=given) as response:
        assert response.status == status
    assert not live.changes.exists()


@pytest.mark.thorough
@pytest.mark.parametrize("depth", [100, 300, 500, 700, 900, 980])
@pytest.mark.parametrize("key", ["about", "unheard_of", "probe"])
async def test_a_body_of_any_depth_is_refused(live: Running, key: str, depth: int) -> None:
    """One that JSON could be read of, and the checks could not be made of, got 500."""
    given = {"X-VX11-Token": ADMIN_TOKEN, "Content-Type": "application/json", "If-Match": "*"}
    nested = '{"x":' * depth + "1" + "}" * depth
    body = f'{{"url": "http://127.0.0.1:9", "{key}": {nested}}}'
    for method, name in (("put", "new"), ("patch", "madre")):
        async with live.client.request(method, f"{BASE}/services/{name}", data=body, headers=given) as response:
            assert response.status in (400, 422), await response.text()
    assert not live.changes.exists()


async def test_what_the_environment_overrides_is_refused_with_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TENTACULO_SERVICES_MADRE_ABOUT", "environment")
    monkeypatch.setenv("SHUB_ON", "no")
    async with running(tmp_path) as live:
        refused = await live.send("PATCH", "/services/madre", {"about": "x"}, status=409)
        assert refused["error"] == "set_by_environment"
        assert refused["variables"] == [{"key": "services.madre.about", "variable": "TENTACULO_SERVICES_MADRE_ABOUT"}]
        refused = await live.send("POST", "/services/shub/enable", {}, status=409)
        assert refused["variables"] == [{"key": "services.shub.enabled", "variable": "SHUB_ON"}]
        # For a time it is above the environment.
        await live.send("POST", "/services/shub/enable", {"for": "1h"})
        assert live.services["shub"].enabled


async def test_what_only_the_environment_has_is_refused_with_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was said not to be there, though the configuration that is served shows it."""
    fleet = {"env": {"url": "http://127.0.0.1:8003", "aliases": ["other"], "routes": [{"prefix": "/env"}]}}
    monkeypatch.setenv("TENTACULO_SERVICES", json.dumps(fleet))
    monkeypatch.setenv("TENTACULO_ALERTS_APPRISE_DUTY", "json://h")
    monkeypatch.setenv("TENTACULO_MAINTENANCE", '[{"services": ["*"], "at": "02:00-03:00"}]')
    async with running(tmp_path) as live:
        for method, path, body, key, variable in (
            ("PATCH", "/services/env", {"about": "x"}, "services.env", "TENTACULO_SERVICES"),
            ("POST", "/services/env/disable", {}, "services.env", "TENTACULO_SERVICES"),
            ("DELETE", "/services/env/routes/0", None, "services.env", "TENTACULO_SERVICES"),
            ("DELETE", "/services/env", None, "services.env", "TENTACULO_SERVICES"),
            ("DELETE", "/maintenance/0", None, "maintenance", "TENTACULO_MAINTENANCE"),
        ):
            refused = await live.send(method, path, body, status=409)
            assert refused["variables"] == [{"key": key, "variable": variable}], (method, path)
        for path in ("/services/other", "/services/madre/disable"):
            body = {"for": "1h"} if path.endswith("disable") else None
            refused = await live.send("POST" if body else "GET", path, body, status=404)
            alias = " other is an alias of env." if path.endswith("other") else ""
            assert refused["detail"] == f"There is no such service.{alias}"
        await live.send("POST", "/services/env/disable", {"for": "1h"})
        assert not live.services["env"].enabled
        await live.send("DELETE", "/services/env/override")
        assert live.services["env"].enabled


async def test_a_new_thing_whose_address_only_the_environment_has_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was said to be changed, and nothing was: the environment makes no service by a key of it."""
    monkeypatch.setenv("TENTACULO_SERVICES_NEW_URL", "http://127.0.0.1:8003")
    async with running(tmp_path) as live:
        refused = await live.send("PUT", "/services/new", {"routes": [{"prefix": "/new"}]}, status=422)
        assert [fault["path"] for fault in refused["faults"]] == ["services.new"]
        assert not live.changes.exists()


async def test_a_list_that_the_environment_replaces_is_refused_with_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    routes, urls = [{"prefix": "/a"}, {"prefix": "/b"}], ["http://127.0.0.1:1", "http://127.0.0.1:2"]
    monkeypatch.setenv("TENTACULO_SERVICES_MADRE_ROUTES", json.dumps(routes))
    monkeypatch.setenv("TENTACULO_SERVICES_MADRE_URLS", json.dumps(urls))
    async with running(tmp_path) as live:
        for name, key in (("routes", "ROUTES"), ("endpoints", "URLS")):
            refused = await live.send("DELETE", f"/services/madre/{name}/1", status=409)
            assert [one["variable"] for one in refused["variables"]] == [f"TENTACULO_SERVICES_MADRE_{key}"]


async def test_a_restart_keeps_the_changes(tmp_path: Path) -> None:
    async with running(tmp_path) as live:
        await live.send("PUT", "/services/new", {"url": "http://127.0.0.1:9", "token": SECRET})
        assert stat.S_IMODE(live.changes.stat().st_mode) == 0o600
        before = await live.generation()
    async with running(tmp_path) as live:
        assert await live.generation() == before
        assert (await live.send("GET", "/services/new"))["config"]["token"] == MASK


async def test_a_service_that_is_on_for_a_time_goes_off_by_itself(live: Running) -> None:
    made = await live.send("POST", "/services/shub/enable", {"for": 1, "reason": "demo"})
    assert made["keys"] == ["services.shub.enabled"]
    assert live.services["shub"].enabled
    shown = await live.send("GET", "/services/shub")
    assert (shown["override"]["by"], shown["override"]["reason"]) == ("ana", "demo")
    await eventually(lambda: not live.services["shub"].enabled)
    assert live.served.by[-1] == "end of what was switched for a time: shub"
    await eventually(lambda: read_layer(live.changes).overrides == {})


async def test_the_reason_of_a_service_that_was_off_ends_with_that(live: Running) -> None:
    """It was shown again when the service was switched off the next time, for another reason."""
    live.file.write_text(FILE.replace("enabled_env", 'off_reason = "as the file says"\nenabled_env'))
    await live.reloader.reload("test")
    for name in ("madre", "shub"):
        await live.send("POST", f"/services/{name}/disable", {"reason": "repair"})
        assert live.services[name].off_reason == "repair"
        made = await live.send("POST", f"/services/{name}/enable", {})
        assert sorted(made["keys"]) == [f"services.{name}.enabled", f"services.{name}.off_reason"]
        await live.send("POST", f"/services/{name}/disable", {})
    assert live.services["madre"].off_reason == "off on purpose"
    assert live.services["shub"].off_reason == "as the file says"


async def test_also_over_a_restart_in_between(tmp_path: Path) -> None:
    async with running(tmp_path) as live:
        await live.send("POST", "/services/shub/enable", {"for": 2})
    async with running(tmp_path) as live:
        assert live.services["shub"].enabled
        await eventually(lambda: not live.services["shub"].enabled)
    async with running(tmp_path) as live:
        assert not live.services["shub"].enabled


async def test_an_override_of_a_clock_that_was_ahead_is_no_longer_than_it_was(tmp_path: Path) -> None:
    ahead = datetime.now(UTC) + timedelta(days=1)
    layer = ChangeLayer(5, overrides={"shub": TimedOverride(True, ahead, ahead + timedelta(seconds=1), "ana")})
    write_layer(tmp_path / "data" / "changes.json", layer)
    async with running(tmp_path) as live:
        assert live.services["shub"].enabled
        await eventually(lambda: not live.services["shub"].enabled)


@pytest.mark.parametrize("hours", [2, -2])
async def test_an_override_outlives_a_clock_that_is_set_and_a_change_after_it(tmp_path: Path, hours: int) -> None:
    step = timedelta()
    async with running(tmp_path, now=lambda: utc_now() + step) as live:
        await live.send("POST", "/services/madre/disable", {"for": "1h"})
        step = timedelta(hours=hours)
        await live.send("PATCH", "/services/shub", {"about": "x"})
        await eventually(lambda: live.served.by[-1] == "system clock set")
        assert not live.services["madre"].enabled
        shown = (await live.send("GET", "/services/madre"))["override"]
        left = datetime.fromisoformat(shown["until"]) - utc_now() - step
        assert timedelta(minutes=50) < left <= timedelta(hours=1)
        await eventually(
            lambda: (
                read_layer(live.changes).overrides["madre"].until.isoformat()
                == datetime.fromisoformat(shown["until"]).isoformat()
            )
        )
        await live.send("PATCH", "/services/shub", {"about": "y"})
        assert not live.services["madre"].enabled
        assert live.served.by.count("system clock set") == 1


async def test_a_reload_between_two_changes_follows_the_file(live: Running) -> None:
    await live.send("PATCH", "/services/madre", {"about": "x"})
    before = {"If-Match": f'"{await live.generation()}"'}
    live.file.write_text(FILE.replace("8001", "8009"))
    # What somebody is editing is not served by a change.
    await live.send("PATCH", "/services/shub", {"about": "y"})
    assert live.services["madre"].url == "http://127.0.0.1:8001"
    report = await live.reloader.reload("test")
    assert report.is_accepted
    assert (live.services["madre"].url, live.services["madre"].about) == ("http://127.0.0.1:8009", "x")
    await live.send("PATCH", "/services/madre", {"owner": "z"}, headers=before, status=412)
    await live.send("PATCH", "/services/madre", {"owner": "z"})
    assert live.services["madre"].url == "http://127.0.0.1:8009"


async def test_an_override_is_taken_back(live: Running) -> None:
    await live.send("POST", "/services/madre/disable", {"for": "1h"})
    assert not live.services["madre"].enabled
    await live.send("DELETE", "/services/madre/override")
    assert live.services["madre"].enabled
    await live.send("DELETE", "/services/madre/override", status=404)


async def test_what_only_a_change_had_is_gone_with_its_override(live: Running) -> None:
    """A service of the same name that was made within the time was switched at once, and nothing could end that."""
    await live.send("PUT", "/services/new", {"url": "http://127.0.0.1:9"})
    await live.send("POST", "/services/new/disable", {"for": "1h"})
    await live.send("POST", "/services/new/undo")
    assert (await live.send("GET", "/config"))["overrides"] == {}
    await live.send("PUT", "/services/new", {"url": "http://127.0.0.1:9"})
    assert live.services["new"].enabled
    await live.send("PATCH", "/services/madre", {"about": "x"})
    await live.send("POST", "/services/madre/disable", {"for": "1h"})
    await live.send("POST", "/services/madre/undo")
    assert not live.services["madre"].enabled, "the file has this one"


async def test_changes_are_taken_back(live: Running) -> None:
    await live.send("PATCH", "/services/madre", {"about": "x"})
    await live.send("PUT", "/services/new", {"url": "http://127.0.0.1:9"})
    await live.send("POST", "/services/madre/undo")
    assert live.services["madre"].about is None
    await live.send("DELETE", "/changes")
    assert set(live.services) == {"madre", "shub"}


async def test_each_change_is_an_event_without_its_values(live: Running) -> None:
    await live.send("PATCH", "/services/madre", {"token": f"{SECRET}2"})
    await live.send("POST", "/services/madre/disable", {"for": "1h"})
    changed, switched = live.events
    assert changed.pop("key").startswith("configuration-20")
    assert changed == {
        "type": "configuration.changed",
        "by": "ana",
        "action": "merge",
        "subject": "services.madre",
        "keys": ["services.madre.token"],
        "revision": 1,
    }
    assert (switched["action"], switched["enabled"]) == ("switch", False)
    assert switched["until"] > datetime.now(UTC).isoformat()


async def test_the_change_of_a_client_that_leaves_is_whole_and_an_event(live: Running) -> None:
    """The server cancels the handler of a client that leaves: the change was made, and nobody learned whose it was."""
    live.served.may_serve.clear()
    author = admin.Author("ana", None)
    change = live.administration.edit("merge", ("services", "madre"), by=author, value={"about": "x"})
    handler = TaskGroup("handler").start(change, "change")
    await live.served.reached.wait()
    handler.cancel()
    await asyncio.wait([handler])
    assert handler.cancelled()
    assert live.events == []
    live.served.may_serve.set()
    await eventually(lambda: live.events, "the event")
    assert (live.events[0]["by"], live.events[0]["keys"]) == ("ana", ["services.madre.about"])
    assert live.services["madre"].about == "x"
    assert read_layer(live.changes).changes == {"services": {"madre": {"about": "x"}}}


async def test_a_change_that_a_stop_cuts_off_is_not_served_by_the_next_start(live: Running) -> None:
    """Its client got 503, "nothing was changed", and the file of changes had it."""
    live.served.may_serve.clear()
    change = live.send("PATCH", "/services/madre", {"about": "x"}, status=503)
    asked = TaskGroup("client").start(change, "change")
    await live.served.reached.wait()
    assert read_layer(live.changes).revision == 1
    await live.layers.close()
    assert (await asked)["error"] == "stopping"
    assert read_layer(live.changes) == ChangeLayer()
    assert live.events == []


class Distant:
    """Layers that another process has: its reply takes a while."""

    def __init__(self, layers: LayerReloads) -> None:
        self._layers = layers
        self.meanwhile: Callable[[], Awaitable[object]] | None = None

    async def describe(self) -> Sources:
        if (happens := self.meanwhile) is not None:
            self.meanwhile = None
            await happens()
        return await self._layers.describe()

    async def adopt(self, adoption: Adoption, by: str) -> Changes:
        return await self._layers.adopt(adoption, by)


async def test_a_change_for_a_generation_that_goes_while_it_is_prepared_is_refused(live: Running) -> None:
    """With several workers it was made to what was reloaded meanwhile, which its client had never seen."""
    distant = Distant(live.layers)
    administration = ConfigurationAdministration(
        distant, lambda: digest(live.served.config, ["hash"]), now=utc_now, record=lambda type_, **members: None
    )
    author = admin.Author("ana", frozenset((await live.generation(),)))
    live.file.write_text(FILE.replace("8001", "8009"))
    distant.meanwhile = partial(live.reloader.reload, "test")
    with pytest.raises(Problem) as caught:
        await administration.edit("merge", ("services", "madre"), by=author, value={"about": "x"})
    assert caught.value.failure is Failure.GENERATION_CHANGED
    assert (live.services["madre"].url, live.services["madre"].about) == ("http://127.0.0.1:8009", None)


async def test_a_change_that_cannot_be_served_is_not_kept(live: Running) -> None:
    live.served.problem = "worker 2 ended"
    refused = await live.send("PATCH", "/services/madre", {"about": "x"}, status=503)
    assert refused["error"] == "changes_not_kept"
    assert refused["detail"] == "The configuration was not applied: worker 2 ended."
    assert read_layer(live.changes) == ChangeLayer()
    assert live.events == []


async def test_a_change_that_cannot_be_kept_is_not_served(live: Running, tmp_path: Path) -> None:
    (tmp_path / "data" / ".changes.json.lock").mkdir(parents=True)
    assert (await live.send("PATCH", "/services/madre", {"about": "x"}, status=503))["error"] == "changes_not_kept"
    assert live.services["madre"].about is None


async def test_a_file_that_somebody_has_edited_is_not_overwritten(live: Running) -> None:
    await live.send("PATCH", "/services/madre", {"about": "x"})
    edited = live.changes.read_text().replace('"x"', '"by hand"')
    live.changes.write_text(edited)
    assert (await live.send("PATCH", "/services/madre", {"about": "y"}, status=409))["error"] == "changes_faulty"
    assert live.changes.read_text() == edited


async def test_a_file_that_cannot_be_read_any_more_is_left_by_taking_everything_back(live: Running) -> None:
    """Neither a reload nor a change was possible until somebody removed the file or restarted the gateway."""
    await live.send("PATCH", "/services/madre", {"about": "x"})
    live.changes.write_text("{")
    assert (await live.send("PATCH", "/services/madre", {"about": "y"}, status=409))["error"] == "changes_faulty"
    assert live.changes.read_text() == "{"
    await live.send("DELETE", "/changes")
    assert live.services["madre"].about is None
    await live.send("PATCH", "/services/madre", {"about": "z"})
    assert read_layer(live.changes).changes == {"services": {"madre": {"about": "z"}}}


async def test_changes_that_were_left_out_at_the_start_can_only_be_thrown_away(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "changes.json").write_text("{")
    async with running(tmp_path) as live:
        shown = await live.send("GET", "/config")
        assert [fault["message"] for fault in shown["not_applied"]] == [
            "is not a file of changes that this version can read"
        ]
        assert (await live.send("PATCH", "/services/madre", {"about": "x"}, status=409))["error"] == "changes_faulty"
        await live.send("DELETE", "/changes")
        await live.send("PATCH", "/services/madre", {"about": "x"})
        assert live.services["madre"].about == "x"


async def test_a_configuration_of_no_file_cannot_be_changed() -> None:
    administration = ConfigurationAdministration(None, str, now=datetime.now, record=print, environ={})
    app = web.Application()
    app.add_routes(admin.routes(administration, lambda request: "ana", lambda request: None))
    async with (
        serving_application(app, token=ADMIN_TOKEN, scopes=("admin",)) as server,
        ClientSession(f"http://{server.host}:{server.port}") as client,
        client.get(f"{BASE}/config", headers={"X-VX11-Token": ADMIN_TOKEN}) as response,
    ):
        assert response.status == 409
