"""Files of the configuration that are broken meanwhile: they keep open nothing that was switched for a time, and no change away."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tentaculo.config.change_layer import read_layer
from tentaculo.config.types import Secret
from tentaculo.gateway import layer_keeper
from tentaculo.security.tokens import hash_token
from tests.support.layered_gateway import ADMIN, Elapsed, LayeredGateway, layered_gateway, write_tables
from tests.support.waits import eventually

REVOKED, KEPT = "a-token-that-is-revoked", "a-token-that-stays"


def line(token: str) -> str:
    return f"{hash_token(token)} name=x\n"


def write(folder: Path) -> Path:
    """A configuration with a service that is off, and the files that it names."""
    file = folder / "tentaculo.toml"
    (folder / "one.token").write_text("a-token-for-one\n")
    (folder / "tokens").write_text(line(REVOKED) + line(KEPT))
    service = {"url": "http://127.0.0.1:9", "token_file": "one.token", "enabled": False, "routes": [{"prefix": "/one"}]}
    tables = {
        "server": {"port": 0, "grace": 1},
        "database": {"url": f"sqlite:///{folder}/none/tentaculo.db"},
        "auth": {"token_file": "tokens", "tokens": [{"hash": hash_token(ADMIN), "scopes": ["admin"]}]},
        "services": {"one": service},
    }
    write_tables(file, tables)
    return file


def write_tokens(folder: Path, text: str) -> None:
    """Replace the token file in one step, as an editor does: a look in between would find no token."""
    new = folder / "tokens.new"
    new.write_text(text)
    new.replace(folder / "tokens")


BREAKS: dict[str, Callable[[Path], object]] = {
    "a service's token": lambda folder: (folder / "one.token").unlink(),
    "the tokens": lambda folder: write_tokens(folder, "no token\n"),
    "the configuration": lambda folder: (folder / "tentaculo.toml").write_text("not = = toml"),
}


async def status(live: LayeredGateway, token: str) -> int:
    return (await live.send("GET", "/one/x", {"X-VX11-Token": token})).status


async def token_watch_found(live: LayeredGateway, revoked: str) -> None:
    await eventually(lambda: not live.gateway.generations.current.tokens.accepts(revoked.encode()), "the revocation")


@pytest.mark.parametrize("broken", BREAKS)
@pytest.mark.parametrize("is_restarted", [False, True], ids=["as it runs", "after a restart"])
async def test_it_ends_with_broken_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str, *, is_restarted: bool
) -> None:
    """An unrelated file that somebody had broken kept the service open until it was mended."""
    monkeypatch.setattr(layer_keeper, "LOOK_EVERY", 0.005)
    monkeypatch.setattr("tentaculo.gateway.token_watch.SWEEP", 0.01)
    file, elapsed = write(tmp_path), Elapsed()
    if is_restarted:
        async with layered_gateway(file, elapsed=elapsed) as live:
            await live.administer("POST", "/services/one/enable", {"for": 1000})
    async with layered_gateway(file, elapsed=elapsed) as live:
        if not is_restarted:
            assert (await live.administer("POST", "/services/one/enable", {"for": 1000}))[0] == 200
        assert await status(live, KEPT) == 502
        # A token that was revoked since the last reload stays so.
        write_tokens(tmp_path, line(KEPT))
        await token_watch_found(live, REVOKED)
        BREAKS[broken](tmp_path)
        elapsed.seconds += 1000
        await eventually(lambda: not live.gateway.config.services["one"].enabled, "the end")
        assert await status(live, KEPT) == 503
        assert await status(live, REVOKED) == 403
        await eventually(lambda: read_layer(tmp_path / "data" / "changes.json").overrides == {})


@pytest.mark.parametrize("broken", BREAKS)
async def test_another_change_is_made_with_broken_files(tmp_path: Path, broken: str) -> None:
    """It was refused with the faults of a file that it has nothing to do with."""
    async with layered_gateway(write(tmp_path)) as live:
        BREAKS[broken](tmp_path)
        made, found = await live.administer("PATCH", "/services/one", {"about": "x", "enabled": True})
        assert (made, sorted(found.get("keys", ()))) == (200, ["services.one.about", "services.one.enabled"]), found
        one = live.gateway.config.services["one"]
        assert (one.about, one.token) == ("x", Secret("a-token-for-one"))
        assert await status(live, KEPT) == 502, "its token is accepted"
        assert (await live.administer("POST", "/reload"))[0] == 422
    if broken != "the configuration":
        assert read_layer(tmp_path / "data" / "changes.json").revision == 1


async def test_what_a_change_brings_back_is_read(tmp_path: Path) -> None:
    async with layered_gateway(write(tmp_path)) as live:
        assert (await live.administer("DELETE", "/services/one"))[0] == 200
        (tmp_path / "one.token").write_text("")
        refused, found = await live.administer("POST", "/services/one/undo")
        assert (refused, [fault["path"] for fault in found["faults"]]) == (422, ["services.one.token_file"])
        (tmp_path / "one.token").write_text("another-token\n")
        assert (await live.administer("POST", "/services/one/undo"))[0] == 200
        assert live.gateway.config.services["one"].token == Secret("another-token")
