"""The changes of machines on one PostgreSQL: the row counts, and the file of each machine is its copy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from aiohttp import ClientSession
from sqlalchemy import Connection, text
from structlog.testing import capture_logs

from tentaculo.config.change_layer import ChangeLayer, TimedOverride, read_layer, write_layer
from tentaculo.gateway import layer_keeper
from tentaculo.gateway.admin_routes import record_last_change
from tentaculo.gateway.changes_table import ChangesTable, TableFollower
from tentaculo.model.failure import Problem
from tentaculo.model.text import utc_now
from tentaculo.store import migrate
from tentaculo.store.changes import StoredChanges, read_changes, replace_changes
from tentaculo.store.client import StoreClient
from tentaculo.store.errors import StoreUnavailable
from tentaculo.tasks import TaskGroup
from tests.gateway.test_administration import ADMIN_TOKEN, ANY, BASE, FILE, Running, running
from tests.support.layered_gateway import Elapsed
from tests.support.postgresql import Server
from tests.support.runtime_tables import opened
from tests.support.waits import eventually

ABOUT = {"services": {"madre": {"about": "a"}}}


@dataclass
class Machine:
    """A machine: its write API, and what follows the row."""

    live: Running
    follower: TableFollower
    store_client: StoreClient
    elapsed: Elapsed
    """Its clock that nobody sets."""
    now: Callable[[], datetime]
    """Its system clock."""

    async def say(self, about: str, *, status: int = 200, if_match: str = "*") -> None:
        """Change the text of a service."""
        body = {"about": about}
        await self.live.send("PATCH", "/services/madre", body, status=status, headers={"If-Match": if_match})

    @property
    def about(self) -> str | None:
        """The text that is served."""
        about: str | None = self.live.services["madre"].about
        return about

    @property
    def kept(self) -> ChangeLayer:
        """What its file has."""
        return read_layer(self.live.changes)


@pytest.fixture
def url(postgresql: Server) -> Iterator[str]:
    with postgresql.database(postgresql.template("migrated", migrate.upgrade)) as found:
        yield found


@asynccontextmanager
async def machine(
    folder: Path,
    url: str,
    *,
    ahead: timedelta = timedelta(),
    layer: ChangeLayer | None = None,
    starts: bool = True,
    more: str = "",
) -> AsyncIterator[Machine]:
    """One machine, whose clock is so much ahead; `layer` is in its file. Without `starts` its database is away.

    `more` is in its configuration.
    """
    folder.mkdir()
    (folder / "tentaculo.toml").write_text(FILE + more)
    if layer is not None:
        write_layer(folder / "data" / "changes.json", layer)
    elapsed = Elapsed()
    store_client = StoreClient(url)

    def now() -> datetime:
        return utc_now() + ahead

    async with running(folder, now=now, elapsed=elapsed, table=ChangesTable(store_client, now)) as live:
        follower = TableFollower(live.layers, store_client, now=now)
        found = Machine(live, follower, store_client, elapsed, now)
        try:
            if starts:
                await start(found)
            yield found
        finally:
            await store_client.close()


async def start(one: Machine) -> None:
    """Have the database of a machine be there."""
    await one.store_client.start()
    await eventually(lambda: one.store_client.problem is None, "the database")


@pytest.fixture
async def two(tmp_path: Path, url: str) -> AsyncIterator[tuple[Machine, Machine]]:
    async with machine(tmp_path / "a", url) as a, machine(tmp_path / "b", url) as b:
        yield a, b


def store(url: str, layer: ChangeLayer | bytes, revision: int) -> None:
    """Put a row in the place of the one that is there, as a restored database or another version has it."""
    with opened(url) as connection:
        connection.execute(text("DELETE FROM tentaculo_configuration_changes"))
        document = layer if isinstance(layer, bytes) else layer.encode()
        assert replace_changes(connection, 0, StoredChanges(revision, document))
        connection.commit()


async def test_a_change_of_one_machine_is_served_and_kept_by_the_other(two: tuple[Machine, Machine]) -> None:
    a, b = two
    await b.follower.look()
    await a.say("of a")
    await b.follower.look()
    assert (b.about, b.live.served.by) == ("of a", ["another machine"])
    assert b.kept == a.kept
    assert b.live.events == [], "the machine that was asked records it"
    await b.say("of b")
    await a.follower.look()
    assert (a.about, a.kept.revision) == ("of b", 2)
    await a.follower.look()
    assert len(a.live.served.by) == 2, "what is served already is not served again"


async def test_of_two_changes_at_once_one_is_refused_and_none_is_lost(two: tuple[Machine, Machine]) -> None:
    a, b = two
    tags = [f'"{await one.live.generation()}"' for one in two]

    async def put(one: Machine, tag: str) -> int:
        name = "of-a" if one is a else "of-b"
        async with (
            ClientSession(one.live.client._base_url) as session,
            session.put(
                f"{BASE}/services/{name}",
                json={"url": "http://127.0.0.1:9", "routes": [{"prefix": f"/{name}"}]},
                headers={"X-VX11-Token": ADMIN_TOKEN, "If-Match": tag},
            ) as response,
        ):
            return response.status

    statuses = await asyncio.gather(put(a, tags[0]), put(b, tags[1]))
    assert sorted(statuses) == [200, 412]
    winner, loser = (a, b) if statuses[0] == 200 else (b, a)
    assert set(loser.live.services) == {"madre", "shub"}
    await loser.follower.look()
    assert await put(loser, ANY["If-Match"]) == 200
    await winner.follower.look()
    assert set(a.live.services) == set(b.live.services) == {"madre", "shub", "of-a", "of-b"}


async def test_a_change_for_any_generation_follows_the_row_first(two: tuple[Machine, Machine]) -> None:
    a, b = two
    await a.say("of a")
    asked = TaskGroup("asked")
    changing = asked.start(b.live.send("PATCH", "/services/madre", {"owner": "of b"}), "change")
    while not changing.done():
        with suppress(layer_keeper.LayerConflictError):  # as in its own loop, where the next look is soon
            await b.follower.look()
        await asyncio.sleep(0.01)
    assert (await changing)["revision"] == 2
    assert (b.about, b.live.services["madre"].owner) == ("of a", "of b")


async def test_what_follows_the_row_may_serve_a_change_before_the_one_that_makes_it(
    two: tuple[Machine, Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The change was taken for one of another machine then: it was taken back, and its client got 200."""
    a, _ = two
    replace = ChangesTable.replace

    async def replace_and_look(self: ChangesTable, before: ChangeLayer, after: ChangeLayer) -> bool:
        done = await replace(self, before, after)
        await a.follower.look()
        return done

    monkeypatch.setattr(ChangesTable, "replace", replace_and_look)
    made = await a.live.send("PATCH", "/services/madre", {"about": "of a"})
    assert made["changed"]
    assert made["changes"]["changed"] == ["madre"]
    assert [event["keys"] for event in a.live.events] == [["services.madre.about"]]
    for one in two:
        await one.follower.look()
        assert (one.about, one.kept.revision) == ("of a", 1)


async def test_a_start_without_the_database_serves_the_file_and_then_the_row(tmp_path: Path, url: str) -> None:
    older = ChangeLayer(1, utc_now(), "ana", {"services": {"madre": {"about": "older"}}})
    newer = ChangeLayer(4, utc_now(), "ana", {"services": {"madre": {"about": "newer"}}})
    store(url, newer, 4)
    async with machine(tmp_path / "a", url, layer=older, starts=False) as a:
        assert a.about == "older"
        with pytest.raises(Problem):
            await a.follower.look()
        await a.say("x", status=503)
        assert (a.about, a.kept) == ("older", older)
        await start(a)
        await a.follower.look()
        assert (a.about, a.kept) == ("newer", newer)
        assert a.live.served.by == ["another machine"]


async def test_a_restored_database_counts_although_the_files_are_newer(two: tuple[Machine, Machine], url: str) -> None:
    a, b = two
    for about in ("first", "second", "third"):
        await a.say(about)
        await b.follower.look()
        if about == "first":
            with opened(url) as connection:
                backup = read_changes(connection)
    assert backup is not None
    store(url, backup.document, backup.revision)
    for one in two:
        await one.follower.look()
        assert (one.about, one.kept.revision) == ("first", 1)
    await b.say("after it")
    await a.follower.look()
    assert (a.about, a.kept.revision) == ("after it", 2)


async def test_a_file_of_the_same_revision_with_other_changes_gives_way(tmp_path: Path, url: str) -> None:
    """A machine that was down while the database was restored, and changed as often as before."""
    store(url, ChangeLayer(3, utc_now(), "ana", {"services": {"madre": {"about": "in the row"}}}), 3)
    layer = ChangeLayer(3, utc_now(), "ana", {"services": {"madre": {"about": "in the file"}}})
    async with machine(tmp_path / "a", url, layer=layer) as a:
        assert a.about == "in the file"
        await a.follower.look()
        assert (a.about, a.kept.changes["services"]["madre"]["about"]) == ("in the row", "in the row")


async def test_a_row_of_a_newer_version_changes_nothing_and_is_not_overwritten(
    two: tuple[Machine, Machine], url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tentaculo.gateway.administration.FOLLOW_WITHIN", 0.1)
    a, _ = two
    await a.say("of a")
    before, newer = a.kept, b'{"revision": 7, "unheard_of": true}'
    store(url, newer, 7)
    await a.follower.look()
    assert (a.about, a.kept) == ("of a", before)
    # 412 would have the client read the tag that it has, and send it again, for good.
    await a.say("another", status=503)
    assert (a.about, a.kept) == ("of a", before)
    with opened(url) as connection:
        assert read_changes(connection) == StoredChanges(7, newer)


async def test_a_file_that_somebody_edited_is_not_overwritten_by_the_row(two: tuple[Machine, Machine]) -> None:
    a, b = two
    await a.say("of a")
    await b.follower.look()
    edited = b.live.changes.read_text().replace('"of a"', '"by hand"')
    b.live.changes.write_text(edited)
    await a.say("of a again")
    await b.follower.look()
    assert (b.about, b.live.changes.read_text()) == ("of a", edited)


@pytest.mark.parametrize("seconds", [-30, 30])
async def test_an_override_ends_at_one_moment_though_the_clocks_differ(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch, seconds: int
) -> None:
    """20 seconds: by its own clock, the other machine would take it for over, or for one that begins later."""
    monkeypatch.setattr(layer_keeper, "LOOK_EVERY", 0.005)
    async with AsyncExitStack() as stack:
        a = await stack.enter_async_context(machine(tmp_path / "a", url))
        b = await stack.enter_async_context(machine(tmp_path / "b", url, ahead=timedelta(seconds=seconds)))
        await a.live.send("POST", "/services/shub/enable", {"for": 20})
        await b.follower.look()
        assert [one.live.services["shub"].enabled for one in (a, b)] == [True, True]
        kept = [one.kept.overrides["shub"] for one in (a, b)]
        assert timedelta(seconds=seconds - 5) < kept[1].until - kept[0].until < timedelta(seconds=seconds + 5)
        for one in (a, b):
            one.elapsed.seconds += 20
            await eventually(lambda one=one: not one.live.services["shub"].enabled)  # type: ignore[misc]
            await eventually(lambda one=one: one.kept.overrides == {})  # type: ignore[misc]
        assert [one.kept.revision for one in (a, b)] == [1, 1]
        for one in (a, b):
            await one.follower.look()
            assert not one.live.services["shub"].enabled


@contextmanager
def holding(url: str, statement: str) -> Iterator[Connection]:
    """A session that has run `statement` and not ended its transaction."""
    with opened(url) as connection:
        connection.execute(text(statement))
        try:
            yield connection
        finally:
            connection.rollback()


async def test_a_change_that_got_503_is_not_made_later(
    two: tuple[Machine, Machine], url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database was slow: the change was refused, was made a moment later all the same, and was no event."""
    a, b = two
    await a.say("first")
    monkeypatch.setattr("tentaculo.store.client.READ_WAIT", 0.2)
    with holding(url, "SELECT * FROM tentaculo_configuration_changes FOR UPDATE"):
        await a.say("second", status=503)
    monkeypatch.undo()
    for one in two:
        await one.follower.look()
        assert (one.about, one.kept.revision) == ("first", 1)
    await b.say("third")
    await a.follower.look()
    assert (a.about, a.kept.revision) == ("third", 2)


SLOW_COMMIT = (
    """CREATE FUNCTION wait_for_test() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NEW; END $$""",
    """CREATE CONSTRAINT TRIGGER slow_commit AFTER INSERT OR UPDATE ON tentaculo_configuration_changes
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION wait_for_test()""",
)


async def test_a_change_whose_commit_got_no_response_is_an_event_once_it_is_known(
    two: tuple[Machine, Machine], url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tentaculo.gateway.administration.SETTLE_EVERY", 0.02)
    a, b = two
    with opened(url) as connection:
        for statement in SLOW_COMMIT:
            connection.execute(text(statement))
        connection.commit()
    monkeypatch.setattr("tentaculo.store.client.READ_WAIT", 0.2)
    with holding(url, "SELECT pg_advisory_lock(1)") as connection:
        refused = await a.live.send("PATCH", "/services/madre", {"about": "of a"}, status=503)
        assert "not known" in refused["detail"]
        assert a.live.events == []
        connection.execute(text("SELECT pg_advisory_unlock(1)"))
    monkeypatch.setattr("tentaculo.store.client.READ_WAIT", 30)
    await eventually(lambda: bool(a.live.events), "the event of the change")
    assert [(event["by"], event["keys"]) for event in a.live.events] == [("ana", ["services.madre.about"])]
    for one in two:
        await one.follower.look()
        assert (one.about, one.kept.revision) == ("of a", 1)
    assert b.live.events == []


async def test_the_others_go_back_with_a_machine_whose_database_was_away_meanwhile(
    two: tuple[Machine, Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row kept a change that its machine could not serve, and whose client got 503."""
    monkeypatch.setattr("tentaculo.gateway.administration.SETTLE_EVERY", 0.02)
    a, b = two
    await a.say("first")
    replace, failures = ChangesTable.replace, [StoreUnavailable("away")]

    async def replace_or_fail(self: ChangesTable, before: ChangeLayer, after: ChangeLayer) -> bool:
        if before.revision == 2 and failures:
            raise failures.pop()
        return await replace(self, before, after)

    monkeypatch.setattr(ChangesTable, "replace", replace_or_fail)
    a.live.served.problem = "no memory"
    await a.say("second", status=503)
    assert failures == []
    a.live.served.problem = ""

    async with asyncio.timeout(20):
        while not b.live.changes.exists() or b.kept.revision != 3:
            await b.follower.look()
            await asyncio.sleep(0.01)
    await a.follower.look()
    assert [one.about for one in two] == ["first", "first"]


async def test_a_copy_that_somebody_edited_and_reloaded_gives_way_to_the_row(two: tuple[Machine, Machine]) -> None:
    """The row of the same revision was not compared again: the machines served different things until the next change."""
    a, b = two
    await a.say("of a")
    await b.follower.look()
    b.live.changes.write_text(b.live.changes.read_text().replace('"of a"', '"by hand"'))
    assert (await b.live.reloader.reload("test")).is_accepted
    assert b.about == "by hand"
    await b.follower.look()
    assert (b.about, b.kept) == ("of a", a.kept)


async def test_a_row_that_was_refused_is_tried_again_after_a_reload(two: tuple[Machine, Machine]) -> None:
    a, b = two
    collides = {"url": "http://127.0.0.1:9", "routes": [{"prefix": "/new"}]}
    file = b.live.changes.parent.parent / "tentaculo.toml"
    before = file.read_text()
    file.write_text(before + '[services.own]\nurl = "http://127.0.0.1:9"\nroutes = [{ prefix = "/new" }]\n')
    assert (await b.live.reloader.reload("test")).is_accepted
    await a.live.send("PUT", "/services/new", collides)
    await b.follower.look()
    assert set(b.live.services) == {"madre", "own", "shub"}
    file.write_text(before)
    assert (await b.live.reloader.reload("test")).is_accepted
    await b.follower.look()
    assert set(b.live.services) == {"madre", "new", "shub"}


async def test_a_machine_that_had_changes_before_there_was_a_row_brings_them(tmp_path: Path, url: str) -> None:
    """As after a move from SQLite: the second machine served what the first one had changed only after the next change."""
    layer = ChangeLayer(3, utc_now(), "ana", {"services": {"madre": {"about": "from SQLite"}}})
    async with machine(tmp_path / "a", url, layer=layer) as a, machine(tmp_path / "b", url) as b:
        await b.follower.look()
        assert b.about is None
        await a.follower.look()
        await b.follower.look()
        assert [(one.about, one.kept.revision) for one in (a, b)] == [("from SQLite", 3), ("from SQLite", 3)]
        await b.say("of b")
        await a.follower.look()
        assert a.about == "of b"


async def test_gateways_of_one_folder_share_the_file_of_changes(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second gateway of a machine took what the first one had written for a hand's work, and never followed."""
    monkeypatch.setattr(layer_keeper, "LOOK_EVERY", 0.005)
    async with machine(tmp_path / "a", url) as a:
        same = f'[admin]\nchanges_file = "{a.live.changes}"\n'
        async with machine(tmp_path / "b", url, more=same) as b:
            await a.say("of a")
            await b.follower.look()
            assert b.about == "of a"
            await b.say("of b")
            await a.follower.look()
            assert (a.about, a.kept.revision) == ("of b", 2)
            await a.live.send("POST", "/services/shub/enable", {"for": 20})
            await b.follower.look()
            for one in (a, b):
                assert one.live.services["shub"].enabled
                one.elapsed.seconds += 20
                await eventually(lambda one=one: not one.live.services["shub"].enabled)  # type: ignore[misc]
            await eventually(lambda: a.kept.overrides == {})
            b.live.served.problem = "no memory"
            await a.say("once more")
            await b.follower.look()
            assert (a.about, a.kept.revision) == ("once more", 4)
            b.live.served.problem = ""
            await a.say("last")
            await b.follower.look()
            assert (b.about, a.kept.revision) == ("last", 5)


@asynccontextmanager
async def following(one: Machine, on_first: Callable[[], Awaitable[None]] | None = None) -> AsyncIterator[None]:
    """A machine that follows the row as a gateway does."""
    follower = TableFollower(one.live.layers, one.store_client, every=0.01, now=one.now, on_first=on_first)
    tasks = TaskGroup("follower")
    tasks.start(follower.run(), "follow")
    try:
        yield
    finally:
        await tasks.close()


async def test_what_the_row_had_at_the_start_is_recorded_once_it_is_served(tmp_path: Path, url: str) -> None:
    """The machine that had made the change was killed before it had served it, and its event was lost."""
    older = ChangeLayer(1, utc_now(), "ana", {"services": {"madre": {"about": "older"}}})
    newer = ChangeLayer(4, utc_now(), "ben", {"services": {"madre": {"about": "newer"}}})
    store(url, newer, 4)
    events: list[dict[str, object]] = []

    def record(type_: str, **members: object) -> None:
        events.append({"type": type_, **members})

    async with machine(tmp_path / "a", url, layer=older) as a:
        async with following(a, partial(record_last_change, a.live.layers, record, utc_now)):
            await eventually(lambda: events, "the event")
            assert (a.about, events[0]["key"]) == ("newer", newer.key)
            assert (events[0]["type"], events[0]["by"], events[0]["revision"]) == ("configuration.changed", "ben", 4)
            await a.say("newest")
        assert len(events) == 1


async def test_a_row_that_no_clock_has_ends_nothing(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine followed no row any more until it was restarted."""
    monkeypatch.setattr("tentaculo.gateway.changes_table.RETRY_EVERY", 0.01)
    end = datetime.max.replace(tzinfo=UTC)
    for_ever = {"madre": TimedOverride(True, end - timedelta(hours=1), end)}
    store(url, ChangeLayer(4, utc_now(), "ben", ABOUT, for_ever), 4)
    async with machine(tmp_path / "a", url, ahead=timedelta(hours=1)) as a:
        with capture_logs() as logs:
            async with following(a):
                await eventually(lambda: logs, "the error")
                assert logs[0]["event"] == "changes of other machines not followed"
                store(url, ChangeLayer(5, utc_now(), "ben", ABOUT), 5)
                await eventually(lambda: a.about == "a", "the next row")
