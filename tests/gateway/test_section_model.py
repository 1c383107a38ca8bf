"""Random sequences of changes to channels, maintenance and limits, and of reloads in every way: all follow one model.

`test_configuration_model.py` has the services, tokens and requests. To try more: `TENTACULO_MODEL_EXAMPLES=1000`.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import uvloop
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tentaculo.config.masking import MASK
from tentaculo.gateway.reloading import ReloadReport
from tentaculo.security.tokens import hash_token
from tests.support.layered_gateway import ADMIN, LayeredGateway, layered_gateway, write_tables
from tests.support.wire import answering, ok, upstream

EXAMPLES = int(os.environ.get("TENTACULO_MODEL_EXAMPLES", "3"))
KIND = {"hook": "webhooks", "copy": "webhooks", "chat": "apprise"}
"""The kind of each channel that there may be."""
SERVICES = ("one", "two")
KEYS = ["whsec_" + 32 * letter for letter in "AB"]

Value = Any
Values = Mapping[str, Value]


def hook(number: int, timeout: int | None) -> Value:
    """A receiver of webhooks at which nobody listens."""
    return {
        "url": f"http://127.0.0.1:{number}/x",
        "secrets": [KEYS[number % 2]],
        **({"timeout": timeout} if timeout else {}),
    }


hooks = st.builds(hook, st.integers(1, 3), st.sampled_from([None, 5, 6]))
values = {"hook": hooks, "copy": hooks, "chat": st.sampled_from(["json://127.0.0.1:1", "json://127.0.0.1:2"])}
channels = st.fixed_dictionaries({}, optional=values)
plan = st.builds(
    lambda names, reason: {
        "services": names,
        "reason": reason,
        "starts": "2020-01-01T00:00:00Z",
        "ends": "2090-01-01T00:00:00Z",
    },
    st.sampled_from([["one"], ["two"], ["*"]]),
    st.sampled_from(["disk", "network"]),
)
plans = st.lists(plan, max_size=2)
rates = st.fixed_dictionaries({name: st.sampled_from([3, 4, 5]) for name in SERVICES})


@dataclass
class Model:
    """The file and the changes. A channel is kept, changed or removed as `merge` says; the plans are one value."""

    channels: Values
    plans: list[Value] | None
    rates: Mapping[str, int]
    changed: dict[str, Value] = field(default_factory=dict)
    """By name of a channel its difference to the file, None where it is removed."""
    parts: frozenset[str] = frozenset()
    """The channels of which a part was changed, since the file had them."""
    changed_plans: list[Value] | None = None
    changed_rates: dict[str, int] = field(default_factory=dict)
    revision: int = 0

    def copy(self) -> Model:
        return replace(self, changed=dict(self.changed), changed_rates=dict(self.changed_rates))

    @property
    def served_channels(self) -> dict[str, Value]:
        served = dict(self.channels)
        for name, change in self.changed.items():
            if change is None:
                served.pop(name, None)
            elif not isinstance(change, dict):
                served[name] = change
            elif name in served:
                served[name] = {key: one for key, one in {**served[name], **change}.items() if one is not None}
            elif name not in self.parts:
                served[name] = change
        return served

    @property
    def served_plans(self) -> list[Value]:
        return (self.plans or []) if self.changed_plans is None else self.changed_plans

    @property
    def served_rates(self) -> dict[str, int]:
        return {**self.rates, **self.changed_rates}

    def put(self, name: str, wanted: Value | None) -> None:
        """Have a channel become `wanted`; None removes it."""
        if self.served_channels.get(name) == wanted:
            return
        in_file = self.channels.get(name)
        kept, is_part = wanted, False
        if (wanted is None and in_file is None) or wanted == in_file:
            self.changed.pop(name, None)
        else:
            if isinstance(wanted, dict) and isinstance(in_file, dict):
                kept = {key: one for key, one in wanted.items() if in_file.get(key) != one}
                kept |= {key: None for key in in_file if key not in wanted}
                is_part = True
            self.changed[name] = kept
        self.parts = self.parts | {name} if is_part else self.parts - {name}
        self.revision += 1

    def plan(self, wanted: list[Value]) -> None:
        """Have these plans in place of all."""
        before = self.plans if self.changed_plans is None else self.changed_plans
        if before != wanted:
            self.changed_plans = None if wanted == self.plans else wanted
            self.revision += 1

    def limit(self, name: str, requests: int) -> None:
        """Limit the requests of a service."""
        if self.served_rates[name] != requests:
            self.changed_rates[name] = requests
            if requests == self.rates[name]:
                del self.changed_rates[name]
            self.revision += 1

    def undo(self) -> None:
        """Follow the file."""
        if self.changed or self.changed_plans is not None or self.changed_rates:
            self.changed, self.parts, self.changed_plans, self.changed_rates = {}, frozenset(), None, {}
            self.revision += 1


class Sequences(RuleBasedStateMachine):
    """A gateway, and the model of it."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self.stack, self.serving = AsyncExitStack(), AsyncExitStack()
        self.used = dict.fromkeys(SERVICES, 0)
        """Requests that the limit of each service has let through."""

    @initialize(channels=channels, plans=st.none() | plans, rates=rates)
    def start(self, channels: Values, plans: list[Value] | None, rates: Mapping[str, int]) -> None:
        self.disk = self.model = Model(channels, plans, rates)
        self.folder = Path(self.stack.enter_context(TemporaryDirectory()))
        self.file = self.folder / "tentaculo.toml"
        self.runner.run(self._start_service())
        self._write()
        self.runner.run(self._start())

    async def _start_service(self) -> None:
        self.up = await self.stack.enter_async_context(upstream(answering(lambda request: ok(b""))))

    async def _start(self) -> None:
        self.live: LayeredGateway = await self.serving.enter_async_context(layered_gateway(self.file, probes=True))
        self.used = dict.fromkeys(SERVICES, 0)

    def _write(self) -> None:
        disk = self.disk
        alerts: dict[str, dict[str, Value]] = {}
        for name, value in disk.channels.items():
            alerts.setdefault(KIND[name], {})[name] = value
        tables: dict[str, Any] = {
            "server": {"port": 0, "grace": 1},
            "database": {"url": f"sqlite:///{self.folder}/none/tentaculo.db"},
            "auth": {
                "tokens": [{"name": "operator", "hash": hash_token(ADMIN), "scopes": ["admin", "status", "proxy"]}]
            },
            "alerts": alerts,
            "services": {
                name: {"url": f"http://127.0.0.1:{self.up.port}", "routes": [self._route(name, disk.rates[name])]}
                for name in SERVICES
            },
        }
        write_tables(self.file, tables if disk.plans is None else {"maintenance": disk.plans, **tables})

    def _route(self, name: str, requests: int) -> Value:
        return {"prefix": f"/{name}", "limits": [{"per": "route", "rate": f"{requests}/d"}]}

    def teardown(self) -> None:
        self.runner.run(self.serving.aclose())
        self.runner.run(self.stack.aclose())
        self.runner.close()

    def _serve(self, after: Model) -> None:
        """`after` is served from now on. A limit that is another one begins with nothing used."""
        before, self.model = self.model, after
        for name in SERVICES:
            if before.served_rates[name] != after.served_rates[name]:
                self.used[name] = 0

    # -- changes -----------------------------------------------------------------------------------------------------

    def _change(self, method: str, path: str, body: Any, after: Model, status: int = 200) -> None:
        got, found = self.runner.run(self.live.administer(method, path, body))
        assert got == status, found
        assert (found["changed"], found["revision"]) == (after.revision != self.model.revision, after.revision), found
        self._serve(after)

    def _missing(self, method: str, path: str, body: Any = None) -> None:
        status, found = self.runner.run(self.live.administer(method, path, body))
        assert (status, found["error"]) == (404, "not_found"), found

    @rule(name=st.sampled_from(sorted(KIND)), data=st.data())
    def put_channel(self, name: str, data: st.DataObject) -> None:
        wanted, after = data.draw(values[name]), self.model.copy()
        after.put(name, wanted)
        body = wanted if KIND[name] == "webhooks" else {"url": wanted}
        self._change("PUT", f"/alerts/{KIND[name]}/{name}", body, after)

    @rule(name=st.sampled_from(["hook", "copy"]), timeout=st.sampled_from([None, 5, 7]))
    def merge_webhook(self, name: str, timeout: int | None) -> None:
        old, path = self.model.served_channels.get(name), f"/alerts/webhooks/{name}"
        if old is None:
            self._missing("PATCH", path, {"timeout": timeout})
            return
        after = self.model.copy()
        after.put(name, {key: one for key, one in {**old, "timeout": timeout}.items() if one is not None})
        self._change("PATCH", path, {"timeout": timeout}, after)

    @rule(name=st.sampled_from(sorted(KIND)))
    def remove_channel(self, name: str) -> None:
        path = f"/alerts/{KIND[name]}/{name}"
        if name not in self.model.served_channels:
            self._missing("DELETE", path)
            return
        after = self.model.copy()
        after.put(name, None)
        self._change("DELETE", path, None, after)

    @rule(name=st.sampled_from(["hook", "copy"]))
    def send_back_what_is_shown(self, name: str) -> None:
        """The masks of its secrets stand for the secrets."""
        if name in self.model.served_channels:
            self._change("PUT", f"/alerts/webhooks/{name}", self._masked(name), self.model.copy())

    @rule(wanted=plans)
    def replace_plans(self, wanted: list[Value]) -> None:
        after = self.model.copy()
        after.plan(wanted)
        self._change("PUT", "/maintenance", wanted, after)

    @rule(wanted=plan)
    def add_plan(self, wanted: Value) -> None:
        after = self.model.copy()
        after.plan([*self.model.served_plans, wanted])
        self._change("POST", "/maintenance", wanted, after, 201)

    @rule(number=st.integers(0, 2))
    def remove_plan(self, number: int) -> None:
        served = self.model.served_plans
        if number >= len(served):
            self._missing("DELETE", f"/maintenance/{number}")
            return
        after = self.model.copy()
        after.plan([one for place, one in enumerate(served) if place != number])
        self._change("DELETE", f"/maintenance/{number}", None, after)

    @rule(name=st.sampled_from(SERVICES), requests=st.sampled_from([3, 4, 5]))
    def change_a_limit(self, name: str, requests: int) -> None:
        after = self.model.copy()
        after.limit(name, requests)
        self._change("PATCH", f"/services/{name}", {"routes": [self._route(name, requests)]}, after)

    @rule()
    def undo(self) -> None:
        after = self.model.copy()
        after.undo()
        self._change("DELETE", "/changes", None, after)

    @rule(
        what=st.sampled_from(
            [
                ("PUT", "/alerts/webhooks/hook", {"url": "ftp://h", "secrets": KEYS}),
                ("PUT", "/alerts/webhooks/copy", {"url": MASK, "secrets": ["whsec_"], "unheard_of": 1}),
                ("PUT", "/alerts/apprise/chat", {"url": "no URL"}),
                ("POST", "/maintenance", {"services": ["nobody"], "at": "02:00-03:00"}),
                ("PUT", "/maintenance", [{"services": ["one"]}]),
                ("PATCH", "/services/one", {"routes": [{"prefix": "/one", "limits": [{"rate": "0/s"}]}]}),
            ]
        )
    )
    def faulty(self, what: tuple[str, str, Any]) -> None:
        status, found = self.runner.run(self.live.administer(*what))
        assert (status, found["error"]) == (422, "configuration_rejected"), found

    # -- reloads -----------------------------------------------------------------------------------------------------

    def _of_disk(self) -> Model:
        after = self.model.copy()
        after.channels, after.plans, after.rates = self.disk.channels, self.disk.plans, self.disk.rates
        return after

    @rule(channels=channels, plans=st.none() | plans, rates=rates)
    def reload(self, channels: Values, plans: list[Value] | None, rates: Mapping[str, int]) -> None:
        self.disk = Model(channels, plans, rates)
        self._write()
        report = self.runner.run(self.live.reloader.reload("file change"))
        assert report.is_accepted, report
        self._serve(self._of_disk())

    @rule()
    def restart(self) -> None:
        self.model = self._of_disk()
        self.runner.run(self.serving.aclose())
        self.runner.run(self._start())

    @rule(channels=channels, plans=st.none() | plans, rates=rates, is_faulty=st.booleans(), wanted=plans)
    def reloads_in_four_ways_at_once_beside_a_change(
        self,
        channels: Values,
        plans: list[Value] | None,
        rates: Mapping[str, int],
        is_faulty: bool,
        wanted: list[Value],
    ) -> None:
        """A signal, a command, a changed file and a program ask while a change is made: none is lost, none fails."""
        self.disk = Model(channels, plans, rates)
        self._write()
        text = self.file.read_text()
        if is_faulty:
            self.file.write_text(text + "[unheard_of]\n")
        self.runner.run(self._at_once(wanted, is_faulty=is_faulty))
        self.file.write_text(text)

    async def _at_once(self, wanted: list[Value], *, is_faulty: bool) -> None:
        live, before = self.live, self.live.reloader.last.generation
        fields = {"X-VX11-Token": ADMIN}
        live.reloader.request("SIGHUP")
        reported: tuple[ReloadReport, Any, Any, tuple[int, Any]] = await asyncio.gather(
            live.reloader.reload("file change"),
            live.send("POST", "/tentaculo/admin/reload", fields),
            live.send("POST", "/tentaculo/admin/reload", fields),
            live.administer("PUT", "/maintenance", wanted),
        )
        report, *responses, (status, found) = reported
        assert report.is_accepted is not is_faulty, report
        assert [one.status for one in responses] == [422 if is_faulty else 200] * 2, responses
        assert status == 200, found
        after = self.model.copy() if is_faulty else self._of_disk()
        # The change was made before the reloads or after them.
        possible = []
        for base in (self.model.copy(), after.copy()):
            base.plan(wanted)
            possible.append((base.changed_plans, base.revision))
        layer = (await live.layers.describe()).layer
        kept = (layer.changes.get("maintenance"), layer.revision)
        assert kept in possible, (kept, possible)
        after.changed_plans, after.revision = kept
        assert live.reloader.last.generation - before <= 5
        self._serve(after)

    # -- what is served ----------------------------------------------------------------------------------------------

    @rule(name=st.sampled_from(SERVICES))
    def request(self, name: str) -> None:
        most, used = self.model.served_rates[name], self.used[name]
        response = self.runner.run(self.live.send("GET", f"/{name}/x", {"X-VX11-Token": ADMIN}))
        assert response.status == (200 if used < most else 429)
        self.used[name] = min(most, used + 1)
        assert f";r={most - self.used[name]};" in (response.get("RateLimit") or "")

    def _masked(self, name: str) -> Value:
        value = self.model.served_channels[name]
        return MASK if isinstance(value, str) else {**value, "url": MASK, "secrets": [MASK for _ in value["secrets"]]}

    @invariant()
    def what_is_served_is_what_the_model_says(self) -> None:
        if hasattr(self, "live"):
            self.runner.run(self._check())

    async def _check(self) -> None:
        _, found = await self.live.administer("GET", "/config")
        assert (found["revision"], found["not_applied"]) == (self.model.revision, [])
        alerts = found["config"].get("alerts", {})
        shown = {name: value for kind in ("webhooks", "apprise") for name, value in alerts.get(kind, {}).items()}
        assert shown == {name: self._masked(name) for name in self.model.served_channels}
        assert found["config"].get("maintenance", []) == self.model.served_plans
        response = await self.live.send("GET", "/tentaculo/alerts", {"X-VX11-Token": ADMIN})
        listed = {one["name"]: one["kind"] for one in json.loads(response.body)["channels"]}
        assert listed == {name: KIND[name].removesuffix("s") for name in self.model.served_channels}
        # A moment after a start or a change.
        async with asyncio.timeout(20):
            while await self._maintained() != {
                name for one in self.model.served_plans for name in SERVICES if {name, "*"} & {*one["services"]}
            }:
                await asyncio.sleep(0.01)

    async def _maintained(self) -> set[str]:
        response = await self.live.send("GET", "/vx11/status", {})
        modules = json.loads(response.body)["modules"]
        return {name for name in SERVICES if modules[name]["status"] == "maintenance"}


TestSequences = Sequences.TestCase
TestSequences.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=25,
    deadline=None,
    derandomize="TENTACULO_MODEL_EXAMPLES" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
