from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

import pytest

from tentaculo.cli.truth import command, report
from tentaculo.config.listening import ServerSettings
from tentaculo.config.reader import read
from tentaculo.config.schema import Config
from tentaculo.model.health import Health, ServiceView
from tests.support.health import Serve, answer, by_path, fleet, says
from tests.support.waits import free_port

AT = datetime(2025, 12, 16, 9, 45, 7, tzinfo=UTC)


def view(name: str, health: Health, **fields: object) -> ServiceView:
    defaults: dict[str, object] = {"port": 8001, "reason": "answered 200 in 4 ms", "since": AT, "upstreams": ()}
    return ServiceView(name=name, health=health, **{**defaults, **fields})  # type: ignore[arg-type]


def with_gateway(config: Config, **server: object) -> Config:
    return config.replace(server=read(ServerSettings, server))


async def test_each_service_once_as_it_arrives(serve: Serve) -> None:
    hits: list[bytes] = []

    async def late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hits.append(await reader.readuntil(b"\r\n\r\n"))
        await asyncio.sleep(0.3)
        writer.write(answer())

    config = fleet(
        late={"url": f"http://127.0.0.1:{await serve(late)}"},
        quick={"url": f"http://127.0.0.1:{await serve(says(answer()))}"},
        refused={"url": f"http://127.0.0.1:{free_port()}"},
        off={"url": "http://127.0.0.1:1", "enabled": False},
        several={"urls": [f"http://127.0.0.1:{await serve(says(answer()))}", f"http://127.0.0.1:{free_port()}"]},
    )
    gateway = await serve(by_path({"/health": answer()}))
    arrived: list[ServiceView] = []
    results = await command.probe_all(with_gateway(config, port=gateway), arrived.append)
    assert [(found.name, found.health) for found in results] == [
        ("tentaculo_link", Health.UP),
        ("late", Health.UP),
        ("quick", Health.UP),
        ("refused", Health.DOWN),
        ("off", Health.OFF),
        ("several", Health.DEGRADED),
    ]
    assert sorted(arrived, key=lambda found: found.name) == sorted(results, key=lambda found: found.name)
    assert arrived[-1].name == "late"
    assert len(hits) == 1
    assert results[0].port == gateway
    assert [found.name for found in results if command.is_failure(found)] == ["refused"]
    assert report.summary(results) == {"OK": 4, "BROKEN": 1, "UNKNOWN": 1}


async def test_all_at_once_and_each_path_has_its_time(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if b"/healthz" in await reader.readuntil(b"\r\n\r\n"):
            writer.write(answer())
        else:
            await reader.read()

    monkeypatch.setattr(command, "PATH_TIMEOUT", 0.3)
    port = await serve(silent)
    keys = {"url": f"http://127.0.0.1:{port}", "health": ["/health", "/healthz"], "probe": {"timeout": 0.1}}
    start = time.monotonic()
    results = await command.probe_all(with_gateway(fleet(**{f"s{n}": keys for n in range(8)}), port=0), lambda _: None)
    assert time.monotonic() - start < 2
    assert [(found.health, found.endpoint) for found in results] == [(Health.UP, "/healthz")] * 8


async def test_a_listener_that_fails_is_heard(serve: Serve) -> None:
    def broken(_: ServiceView) -> None:
        raise OSError("the terminal is gone")

    config = with_gateway(fleet(madre={"url": f"http://127.0.0.1:{await serve(says(answer()))}"}), port=0)
    with pytest.raises(OSError, match="the terminal is gone"):
        await command.probe_all(config, broken)
    assert [task for task in asyncio.all_tasks() if "truth" in task.get_name()] == []


@pytest.mark.parametrize(
    ("server", "host"),
    [
        ({"host": "0.0.0.0"}, "127.0.0.1"),
        ({"host": "::"}, "::1"),
        ({"host": "192.0.2.7"}, "192.0.2.7"),
        ({"host": "gateway.example"}, "gateway.example"),
        ({"listen": ["[::1]:8000", "127.0.0.1:9000"]}, "::1"),
    ],
)
def test_where_the_gateway_is(server: dict[str, object], host: str) -> None:
    config = command.with_gateway(with_gateway(fleet(madre={"url": "http://a:1"}), **server))
    assert list(config.services) == ["tentaculo_link", "madre"]
    (upstream,) = config.services["tentaculo_link"].upstreams
    assert (upstream.host, upstream.port, upstream.service) == (host, 8000, "tentaculo_link")


def test_a_gateway_that_is_configured_as_a_service_is_not_asked_twice() -> None:
    config = fleet(tentaculo_link={"url": "http://elsewhere:8000"})
    assert command.with_gateway(config) is config


async def test_one_that_is_not_probed_is_unknown() -> None:
    config = Config.of({"server": {"port": 0}, "services": {"madre": {"url": "http://h:1", "probe": {"kind": "none"}}}})
    shown: list[ServiceView] = []
    found = await command.probe_all(config, shown.append)
    assert [(view.health, view.reason) for view in found] == [(Health.UNKNOWN, "not probed")]
    assert shown == found
