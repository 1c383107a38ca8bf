"""What is found of the tokens while a gateway runs: their ends, their last uses, and a token file that has changed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog.testing

from tentaculo.config.accepted_tokens import TokenSettings
from tentaculo.config.schema import Config
from tentaculo.gateway.gateway import Gateway
from tentaculo.gateway.reloading import NoReloads
from tentaculo.gateway.token_watch import OLD, STORED, TokenWatch
from tentaculo.security.token_file import accepted_tokens, keep_token
from tentaculo.security.tokens import Tokens, hash_token
from tests.conftest import Start
from tests.gateway.test_tokens import ask, by
from tests.support.waits import eventually

END = datetime(2030, 1, 1, tzinfo=UTC)
CI = TokenSettings(hash=hash_token("ci"), name="ci")


class World:
    """The parts around a watch."""

    def __init__(self, *tokens: TokenSettings) -> None:
        self.now = END.timestamp() - 10
        self.monotonic = 1000.0
        self.tokens = Tokens(tokens, clock=lambda: self.now)
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.stored: list[dict[str, int]] = []
        self.is_away = False
        self.watch = TokenWatch(lambda: self.tokens, self.replace, self, self.record, clock=lambda: self.monotonic)

    def replace(self, tokens: Tokens) -> None:
        self.tokens = tokens

    def record(self, type_: str, *, severity: str = "info", key: str | None = None, **payload: object) -> None:
        self.events.append((type_, payload))

    async def note(self, ages: Mapping[str, int]) -> bool:
        if not self.is_away:
            self.stored.append(dict(ages))
        return not self.is_away

    async def read(self) -> Mapping[str, int] | None:
        return None if self.is_away else {"elsewhere": 7}

    def use(self) -> str:
        caller = self.tokens.check(b"ci", None)
        caller.use.requests += 1
        return caller.token


def test_the_end_of_a_token_is_said_once() -> None:
    world = World(CI.replace(expires=END))
    world.watch.look()
    assert world.events == []
    world.now += 10
    with structlog.testing.capture_logs() as lines:
        for _ in range(3):
            world.watch.look()
    # A key with `token` in its name is hidden in the log.
    assert [(line["event"], line["caller"]) for line in lines] == [("token expired", "ci")]
    assert world.events == [("token.expired", {"token": "ci", "at": "2030-01-01T00:00:00Z"})]


def test_of_a_token_that_ended_long_ago_nothing_is_said() -> None:
    world = World(CI.replace(expires=END - timedelta(seconds=OLD + 60)))
    world.watch.look()
    assert world.events == []


def test_other_tokens_are_said_by_name() -> None:
    world = World(CI, TokenSettings(hash=hash_token("old"), name="old", source="here"))
    world.watch.look()
    world.tokens = Tokens(
        [CI.replace(scopes=("status",)), TokenSettings(hash=hash_token("new"), name="new")], uses=world.tokens.uses
    )
    world.watch.look()
    world.watch.look()
    assert world.events == [("tokens.changed", {"added": ["new"], "removed": ["old"], "changed": ["ci"]})]


async def test_a_last_use_is_stored_at_most_once_a_minute_and_again_where_that_failed() -> None:
    world = World(CI)
    token = world.use()
    world.watch.look()
    world.is_away = True
    await world.watch._store_uses(STORED)
    world.is_away = False
    world.monotonic += 5
    await world.watch._store_uses(STORED)
    assert world.stored == [{token: 5}]
    world.monotonic += 1
    world.use()
    world.watch.look()
    world.monotonic += STORED - 2
    await world.watch._store_uses(STORED)
    assert len(world.stored) == 1
    world.monotonic += 1
    await world.watch._store_uses(STORED)
    assert world.stored[1:] == [{token: int(STORED) - 1}]
    world.monotonic += 1
    world.use()
    await world.watch.close()
    assert world.stored[2:] == [{token: 0}]
    assert await world.watch.last_uses() == {"elsewhere": 7, token: 0}


@pytest.mark.thorough
async def test_a_token_that_is_revoked_in_the_file_is_refused_by_a_gateway_that_runs(
    start: Start, tmp_path: Path
) -> None:
    file = tmp_path / "hashes"
    file.write_text(f"{hash_token('ci')} name=ci\n")
    live = await start({}, auth={"token_file": str(file)})
    assert (await ask(live, "/vx11/overview", by("ci"))).status == 403, "these tests give the tokens themselves"
    file.write_text(f"{hash_token('ci')} name=ci\n{hash_token('ana')} name=ana scopes=events:read\n")

    async def status(name: str) -> int:
        return (await ask(live, "/vx11/overview", by(name))).status

    async def becomes(name: str, wanted: int) -> None:
        async with asyncio.timeout(20):
            while await status(name) != wanted:
                await asyncio.sleep(0.05)

    await becomes("ci", 200)
    assert live.gateway.authentication.tokens.check(b"ana", None).scopes == {"events:read"}
    # A faulty file changes nothing.
    file.write_text("faulty\n")
    assert await status("ci") == 200
    file.write_text(f"{hash_token('ana')} name=ana scopes=status\n")
    await becomes("ci", 403)
    assert await status("ana") == 200
    # Neither does a folder in its place, nor what is no text.
    file.unlink()
    file.mkdir()
    assert await status("ana") == 200
    file.rmdir()
    file.write_bytes(b"\xff\xfe\n")
    assert await status("ana") == 200
    file.write_text(f"{hash_token('eva')} name=eva scopes=status\n")
    await becomes("eva", 200)
    assert await status("ana") == 403


def configured(folder: Path, **auth: Any) -> Config:
    data = {"server": {"port": 0, "grace": 1}, "database": {"url": f"sqlite:///{folder}/none/x.db"}, "auth": auth}
    return Config.of(data).replace(folder=folder)


async def test_a_token_that_was_revoked_since_it_was_read_is_refused_from_the_start(tmp_path: Path) -> None:
    """As by a worker in the place of one that ended: it has the tokens of the last reload."""
    file = tmp_path / "data/token"
    keep_token(file, CI)
    config = configured(tmp_path)
    known = accepted_tokens(config)
    file.write_text(f"{hash_token('ana')}\n")
    async with Gateway(config, known, probes=False) as gateway:
        assert not gateway.authentication.tokens.accepts(b"ci")
        assert gateway.authentication.tokens.accepts(b"ana")


async def test_the_file_of_a_reload_is_watched_from_then_on(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    keep_token(first, CI)
    keep_token(second, CI)
    config, other = configured(tmp_path, token_file="first"), configured(tmp_path, token_file="second")
    async with Gateway(config, accepted_tokens(config), probes=False) as gateway:
        prepared = await gateway.prepare(other, accepted_tokens(other))
        # Behind the back of the reload, which has read the file.
        keep_token(second, TokenSettings(hash=hash_token("late")))
        gateway.swap(prepared)
        tokens = gateway.authentication
        await eventually(lambda: tokens.tokens.accepts(b"late"))
        second.write_text(f"{hash_token('ana')}\n")
        await eventually(lambda: tokens.tokens.accepts(b"ana") and not tokens.tokens.accepts(b"ci"))


@pytest.mark.parametrize("keeps_tokens", [False, True])
async def test_a_token_that_is_revoked_while_a_reload_is_prepared_is_not_accepted_again(
    tmp_path: Path, keeps_tokens: bool
) -> None:
    """The reload has read the file before. Until the watch read it once more the token was accepted again."""
    keep_token(tmp_path / "data/token", CI)
    config = configured(tmp_path)
    async with Gateway(config, accepted_tokens(config), probes=False) as gateway:
        prepared = await gateway.prepare(config, None if keeps_tokens else accepted_tokens(config))
        (tmp_path / "data/token").write_text(f"{hash_token('ana')}\n")
        authentication = gateway.authentication
        await eventually(lambda: not authentication.tokens.accepts(b"ci"))
        gateway.swap(prepared)
        for tokens in (authentication.tokens, gateway.generations.current.rules.access.tokens):
            assert (tokens.accepts(b"ci"), tokens.accepts(b"ana")) == (False, True)


async def test_the_number_of_the_generation_is_that_of_the_other_workers(tmp_path: Path) -> None:
    reloads = NoReloads()
    reloads.last = replace(reloads.last, generation=5)
    config = configured(tmp_path)
    async with Gateway(config, [hash_token("ci")], probes=False, reloads=reloads) as gateway:
        assert gateway.generations.current.number == 5
        gateway.swap(await gateway.prepare(config, [hash_token("ci")]))
        assert gateway.generations.current.number == 6
