"""What is switched for a time ends also where the files of the configuration are broken meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tentaculo.config.change_layer import read_layer
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


BREAKS: dict[str, Callable[[Path], object]] = {
    "a service's token": lambda folder: (folder / "one.token").unlink(),
    "the tokens": lambda folder: (folder / "tokens").write_text("no token\n"),
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
        (tmp_path / "tokens").write_text(line(KEPT))
        await token_watch_found(live, REVOKED)
        BREAKS[broken](tmp_path)
        elapsed.seconds += 1000
        await eventually(lambda: not live.gateway.config.services["one"].enabled, "the end")
        assert await status(live, KEPT) == 503
        assert await status(live, REVOKED) == 403
        await eventually(lambda: read_layer(tmp_path / "data" / "changes.json").overrides == {})
