"""Random sequences of changes, reloads, restarts and requests: what is served is always one whole generation.

`tests/support/configuration_model.py` says what must be served. To try more: `TENTACULO_MODEL_EXAMPLES=1000`.
"""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import uvloop
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tentaculo.config.masking import MASK
from tentaculo.gateway import layer_keeper
from tentaculo.tasks import TaskGroup
from tests.support.configuration_model import (
    ENABLED_VARIABLE,
    TOKEN_VARIABLE,
    Expected,
    Model,
    Service,
    Services,
)
from tests.support.configuration_samples import (
    CLIENTS,
    FAULTY,
    NAMES,
    ORIGIN,
    PREFIXES,
    any_service,
    echoing,
    files,
    is_about,
    make_service,
    merges,
    places,
    seen_in,
    stamps,
    tokens,
    write_model,
)
from tests.support.layered_gateway import ADMIN, Elapsed, LayeredGateway, layered_gateway
from tests.support.wire import Upstream

TARGETS = ("/a/x", "/b/x", "/a/deep/x", "/c/x", "/none/x")
WIRES = ("first", "second")
EXAMPLES = int(os.environ.get("TENTACULO_MODEL_EXAMPLES", "6"))


class Sequences(RuleBasedStateMachine):
    """A gateway, and the model of it."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self.stack, self.serving = AsyncExitStack(), AsyncExitStack()
        self.elapsed = Elapsed()
        self.etag = ""
        self.old_etags: list[str] = []
        self.ups: list[Upstream] = []

    @initialize(
        file=files.filter(lambda file: Model(file, frozenset(), False, {}).fault_count == 0),
        tokens=tokens,
        has_cors=st.booleans(),
        environment=st.fixed_dictionaries(
            {}, optional={TOKEN_VARIABLE: st.just("token-env"), ENABLED_VARIABLE: st.sampled_from(["yes", "no"])}
        ),
    )
    def start(self, file: Services, tokens: frozenset[str], has_cors: bool, environment: dict[str, str]) -> None:
        self.runner.run(self._start_services())
        environ = {key: one for key, one in os.environ.items() if not key.startswith("TENTACULO_")}
        self.stack.enter_context(patch.dict(os.environ, {**environ, **environment}, clear=True))
        self.stack.enter_context(patch.object(layer_keeper, "LOOK_EVERY", 0.002))
        self.folder = Path(self.stack.enter_context(TemporaryDirectory()))
        self.disk = self.model = Model(file, tokens, has_cors, environment)
        self._write_file()
        self.runner.run(self._start())

    async def _start_services(self) -> None:
        self.ups = [await self.stack.enter_async_context(echoing(place)) for place in range(3)]

    async def _start(self) -> None:
        self.live: LayeredGateway = await self.serving.enter_async_context(
            layered_gateway(self.folder / "tentaculo.toml", elapsed=self.elapsed, connections=WIRES)
        )
        await self._view()

    def _real(self, table: Service) -> Service:
        """As the gateway has it: with the address in place of the number of an endpoint."""
        return {**table, "url": f"http://127.0.0.1:{self.ups[table['url']].port}"} if "url" in table else table

    def _write_file(self) -> None:
        services = {name: self._real(table) for name, table in self.disk.file.items()}
        write_model(self.folder, self.disk, services)

    def teardown(self) -> None:
        self.runner.run(self.serving.aclose())
        self.runner.run(self.stack.aclose())
        self.runner.close()

    # -- changes by the write API ------------------------------------------------------------------------------------

    async def _change(self, method: str, path: str, body: Any, after: Model, *, conflicts: bool = False) -> None:
        """Send a change with the ETag of what is served; `after` is the model where it is accepted."""
        status, found = await self.live.administer(method, path, body, if_match=self.etag, on=WIRES[0])
        if conflicts:
            assert (status, found["error"]) == (409, "set_by_environment"), found
            return
        if after.revision != self.model.revision and after.fault_count:
            assert (status, found["error"]) == (422, "configuration_rejected"), found
            assert len(found["faults"]) == after.fault_count, found
            return
        assert status == (201 if path.endswith("/routes") and method == "POST" else 200), found
        assert found["changed"] is (after.revision != self.model.revision), found
        assert found["revision"] == after.revision
        self.model = after

    def _become(self, method: str, path: str, name: str, body: Any, wanted: Service | None) -> None:
        """A change after which a service should be `wanted`."""
        after = self.model.copy()
        conflicts = after.is_set_by_environment(name, wanted)
        after.put(name, wanted)
        self.runner.run(self._change(method, path, body, after, conflicts=conflicts))

    @rule(name=st.sampled_from(NAMES), table=any_service)
    def put(self, name: str, table: Service) -> None:
        self._become("PUT", f"/services/{name}", name, self._real(table), table)

    @rule(name=st.sampled_from(NAMES), merge=merges)
    def merge(self, name: str, merge: Service) -> None:
        old = self.model.changed.get(name)
        if old is None:
            self._missing("PATCH", f"/services/{name}", self._real(merge))
            return
        wanted = {key: value for key, value in {**old, **merge}.items() if value is not None}
        self._become("PATCH", f"/services/{name}", name, self._real(merge), wanted)

    @rule(name=st.sampled_from(NAMES))
    def delete(self, name: str) -> None:
        if name in self.model.changed:
            self._become("DELETE", f"/services/{name}", name, None, None)
        else:
            self._missing("DELETE", f"/services/{name}", None)

    @rule(name=st.sampled_from(NAMES), stamp=stamps, prefix=st.sampled_from(PREFIXES))
    def add_route(self, name: str, stamp: int, prefix: str) -> None:
        route = make_service(0, [prefix], stamp, None, None, False, None)["routes"][0]
        if (old := self.model.changed.get(name)) is None:
            self._missing("POST", f"/services/{name}/routes", route)
        elif prefix not in [one["prefix"] for one in old.get("routes", ())]:
            wanted = {**old, "routes": [*old.get("routes", ()), route]}
            self._become("POST", f"/services/{name}/routes", name, route, wanted)

    @rule(name=st.sampled_from(NAMES))
    def remove_route(self, name: str) -> None:
        if (old := self.model.changed.get(name)) is None:
            self._missing("DELETE", f"/services/{name}/routes/0", None)
        elif len(old.get("routes", ())) > 1:
            self._become("DELETE", f"/services/{name}/routes/0", name, None, {**old, "routes": old["routes"][1:]})
        else:
            self._missing("DELETE", f"/services/{name}/routes/1", None)

    @rule(name=st.sampled_from(NAMES), place=places)
    def replace_endpoints(self, name: str, place: int) -> None:
        body = [{"url": self._real({"url": place})["url"]}]
        if (old := self.model.changed.get(name)) is None:
            self._missing("PUT", f"/services/{name}/endpoints", body)
        else:
            self._become("PUT", f"/services/{name}/endpoints", name, body, {**old, "url": place})

    def _missing(self, method: str, path: str, body: Any) -> None:
        status, found = self.runner.run(self.live.administer(method, path, body, if_match=self.etag, on=WIRES[0]))
        assert (status, found["error"]) == (404, "not_found"), found

    @rule(name=st.sampled_from(NAMES), enabled=st.booleans(), seconds=st.sampled_from([1000, 50_000]))
    def switch_for_a_time(self, name: str, enabled: bool, seconds: int) -> None:
        path = f"/services/{name}/{'enable' if enabled else 'disable'}"
        if name not in self.model.changed:
            self._missing("POST", path, {"for": seconds})
            return
        after = self.model.copy()
        after.switch(name, enabled, seconds)
        self.runner.run(self._change("POST", path, {"for": seconds}, after))

    @rule(name=st.sampled_from(NAMES), enabled=st.booleans())
    def switch_for_good(self, name: str, enabled: bool) -> None:
        path = f"/services/{name}/{'enable' if enabled else 'disable'}"
        old = self.model.changed.get(name)
        if old is None:
            self._missing("POST", path, {})
            return
        after, wanted = self.model.copy(), {**old, "enabled": enabled}
        conflicts = after.is_set_by_environment(name, wanted)
        is_changed = after.put(name, wanted)
        if after.overrides.pop(name, None) is not None and not is_changed:
            after.revision += 1
        self.runner.run(self._change("POST", path, {}, after, conflicts=conflicts))

    @rule(name=st.sampled_from(NAMES))
    def release(self, name: str) -> None:
        if name not in self.model.changed or name not in self.model.overrides:
            self._missing("DELETE", f"/services/{name}/override", None)
            return
        after = self.model.copy()
        after.release(name)
        self.runner.run(self._change("DELETE", f"/services/{name}/override", None, after))

    @rule(name=st.sampled_from(("", *NAMES)))
    def undo(self, name: str) -> None:
        after = self.model.copy()
        after.undo(name)
        method, path = ("POST", f"/services/{name}/undo") if name else ("DELETE", "/changes")
        self.runner.run(self._change(method, path, None, after))

    # No sum of these is just before an end: a restart counts by the wall clock, which does not stand still meanwhile.
    @rule(seconds=st.sampled_from([300, 1100, 60_000]))
    def time_passes(self, seconds: int) -> None:
        self.model.advance(seconds)
        self.elapsed.seconds += seconds
        self.runner.run(self._ended())

    async def _ended(self) -> None:
        """Until the ends are those of the model: the gateway moves them, since the wall clock stood still meanwhile."""
        while not is_about(self.model, (await self.live.layers.describe()).layer.overrides):
            await asyncio.sleep(0.002)

    # -- what changes nothing ----------------------------------------------------------------------------------------

    @rule(name=st.sampled_from(("one", "new")), keys=st.sets(st.sampled_from(sorted(FAULTY)), min_size=1))
    def faulty(self, name: str, keys: set[str]) -> None:
        table = self._real(make_service(0, ["/faulty"], 1, None, None, False, None))
        body = {**table, **{key: FAULTY[key] for key in keys}}
        sent = self.live.administer("PUT", f"/services/{name}", body, if_match=self.etag, on=WIRES[0])
        status, found = self.runner.run(sent)
        assert (status, found["error"]) == (422, "configuration_rejected"), found
        assert {fault["path"].split(".")[2].split("[")[0] for fault in found["faults"]} >= keys, found

    @precondition(lambda self: self.old_etags)
    @rule(name=st.sampled_from(NAMES), data=st.data())
    def change_of_an_earlier_generation(self, name: str, data: st.DataObject) -> None:
        old = data.draw(st.sampled_from(self.old_etags))
        if old == self.etag:
            return  # what is served is the same again
        for method, path, body in (("DELETE", f"/services/{name}", None), ("POST", f"/services/{name}/enable", {})):
            status, found = self.runner.run(self.live.administer(method, path, body, if_match=old, on=WIRES[0]))
            assert (status, found["error"]) == (412, "generation_changed"), found

    # -- reloads -----------------------------------------------------------------------------------------------------

    @rule(file=files, tokens=tokens, has_cors=st.booleans())
    def reload(self, file: Services, tokens: frozenset[str], has_cors: bool) -> None:
        self.disk = Model(file, tokens, has_cors, self.model.environment)
        self._write_file()
        self.runner.run(self._reload())

    @rule()
    def reload_again(self) -> None:
        self.runner.run(self._reload())

    async def _reload(self) -> None:
        after = self._of_disk()
        report = await self.live.reloader.reload("a test")
        assert report.is_accepted is (after.fault_count == 0), report
        assert len(report.faults) == after.fault_count, report
        if report.is_accepted:
            self.model = after

    def _of_disk(self) -> Model:
        after = self.model.copy()
        after.file, after.tokens, after.has_cors = self.disk.file, self.disk.tokens, self.disk.has_cors
        return after

    @rule(text=st.sampled_from(["not = = toml", "[services.one]\nurl = 3\nunheard_of = 1\n"]))
    def faulty_reload(self, text: str) -> None:
        (self.folder / "tentaculo.toml").write_text(text)
        report = self.runner.run(self.live.reloader.reload("a test"))
        assert not report.is_accepted
        assert report.faults
        self._write_file()

    @precondition(lambda self: self._of_disk().fault_count == 0)
    @rule()
    def restart(self) -> None:
        self.model = self._of_disk()
        self.runner.run(self._restart())

    async def _restart(self) -> None:
        await self.serving.aclose()
        await self._start()

    # -- requests ----------------------------------------------------------------------------------------------------

    @rule(place=st.sampled_from(TARGETS), token=st.sampled_from([None, *CLIENTS]), on=st.sampled_from(("", *WIRES)))
    def request(self, place: str, token: str | None, on: str) -> None:
        found = self.runner.run(self._ask(place, token, on))
        assert found == self._expected(self.model, place, token)

    async def _ask(self, target: str, token: str | None, on: str) -> Expected:
        fields = {"Origin": ORIGIN, **({} if token is None else {"X-VX11-Token": token})}
        return seen_in(await self.live.send("GET", target, fields, on=on))

    def _expected(self, model: Model, target: str, token: str | None) -> Expected:
        return model.response(target, token, ORIGIN)

    @rule(
        file=files,
        tokens=tokens,
        has_cors=st.booleans(),
        table=any_service,
        place=st.sampled_from(TARGETS[:4]),
        token=st.sampled_from(CLIENTS),
    )
    def requests_during_a_reload_and_two_changes(
        self, file: Services, tokens: frozenset[str], has_cors: bool, table: Service, place: str, token: str
    ) -> None:
        """Requests see what was served before or after each, whole; of two changes of one generation one is made."""
        self.disk = Model(file, tokens, has_cors, self.model.environment)
        self._write_file()
        self.runner.run(self._race(table, place, token))

    async def _race(self, table: Service, target: str, token: str) -> None:
        possible = [self._expected(self.model, target, token)]
        seen: list[Expected] = []
        is_over = False

        async def client(on: str) -> None:
            while not is_over:
                seen.append(await self._ask(target, token, on))

        tasks = TaskGroup("clients")
        clients = [tasks.start(client(on), f"client {on}") for on in WIRES]
        await self._reload()
        possible.append(self._expected(self.model, target, token))
        await self._view(on="")
        after = self.model.copy()
        conflicts = after.is_set_by_environment("two", table)
        after.put("two", table)
        body = self._real(table)
        results = await asyncio.gather(
            *(self.live.administer("PUT", "/services/two", body, if_match=self.etag) for _ in range(2))
        )
        statuses = sorted(status for status, _ in results)
        if after.revision == self.model.revision:
            assert statuses == [200, 200], results
        elif conflicts or after.fault_count:
            assert statuses in ([409, 409], [422, 422]), results
        else:
            # The second has an ETag that is old, unless it was read before: then it changes nothing any more.
            assert [status for status, found in results if status == 200 and found["changed"]] == [200], results
            assert set(statuses) <= {200, 412}, results
            self.model = after
        possible.append(self._expected(self.model, target, token))
        is_over = True
        await asyncio.gather(*clients)
        for one in seen:
            assert one in possible, (one, possible)

    @rule()
    def native_calls(self) -> None:
        self.runner.run(self._native())

    async def _native(self) -> None:
        response = await self.live.send("GET", "/vx11/status", {}, on=WIRES[1])
        modules = json.loads(response.body)["modules"]
        off = {name for name, one in modules.items() if one["status"] == "off"}
        names = set(self.model.effective)
        assert set(modules) - {"tentaculo_link"} == names
        assert off == {name for name in names if not self.model.is_enabled(name)}, modules
        response = await self.live.send("GET", "/status", {"X-VX11-Token": ADMIN}, on=WIRES[1])
        assert response.status == 200
        for name in NAMES:
            assert (f"/status/services/{name}" in response.body.decode()) is (name in names)

    # -- always ------------------------------------------------------------------------------------------------------

    @invariant()
    def what_is_served_is_what_the_model_says(self) -> None:
        if self.ups:
            self.runner.run(self._view())

    async def _view(self, on: str = WIRES[0]) -> None:
        response = await self.live.send("GET", "/tentaculo/admin/config", {"X-VX11-Token": ADMIN}, on=on)
        assert response.status == 200
        found = json.loads(response.body)
        etag = response.get("ETag")
        assert etag == f'"{found["generation"]}"'
        assert found["not_applied"] == []
        assert found["revision"] == self.model.revision
        assert set(found["overrides"]) == set(self.model.overrides)
        shown = {name: self._masked(table) for name, table in self.model.effective.items()}
        assert found["config"].get("services", {}) == shown, (found, shown)
        if self.etag and etag != self.etag:
            self.old_etags.append(self.etag)
        self.etag = etag

    def _masked(self, table: Service) -> Service:
        """A service as it is shown."""
        hidden = {"set_headers": {"X-Sent": MASK}, "set_response_headers": {"X-Stamp": MASK}}
        routes = {"routes": [{**route, **hidden} for route in table["routes"]]} if "routes" in table else {}
        return {**self._real(table), **routes, **({"token": MASK} if "token" in table else {})}


TestSequences = Sequences.TestCase
TestSequences.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=30,
    deadline=None,
    derandomize="TENTACULO_MODEL_EXAMPLES" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
