"""The commands for incidents, with a real database and a real receiver."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import msgspec
import pytest
import standardwebhooks
from click.testing import CliRunner, Result

from tentaculo.cli.main import cli
from tentaculo.model.health import Health
from tentaculo.model.incident import ChannelTotals, DeliveryOutcome, DeliveryRecord, Incident
from tentaculo.store import incidents as store
from tentaculo.store import migrate
from tentaculo.store.database import once
from tests.gateway.test_incident_service import SECRET
from tests.gateway.test_precursor_reports import fill, story
from tests.support.waits import free_port
from tests.support.webhook_receiver import receiving

Run = Callable[..., Result]
NOW = datetime.now(UTC)
NOON, ONE = (datetime(2026, 1, 2, hour, tzinfo=UTC) for hour in (12, 13))
OPEN = Incident(
    1790000000002,
    "hermes",
    ("hermes", "operator"),
    Health.DOWN,
    "connection refused\x1b[2J",
    NOW - timedelta(minutes=25),
    NOW,
    peak_error_rate=0.5,
    reopened=2,
    deliveries=(
        DeliveryRecord("duty", "incident.opened", DeliveryOutcome.FAILED, NOON, NOON, 3, 30, "answered 502"),
        DeliveryRecord("duty", "incident.opened", DeliveryOutcome.DELIVERED, ONE, ONE),
    ),
)
ENDED = replace(
    OPEN, id=1790000000001, root="mcp", services=("mcp",), ended_at=NOW, ending="It is healthy again: answered 200"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "tentaculo.toml").write_text(
        '[services.hermes]\nurl = "http://127.0.0.1:1"\naliases = ["herald"]\n[services.mcp]\nurl = "http://127.0.0.1:2"\n'
        '[[maintenance]]\nservices = ["*"]\nat = "02:00-02:01"\nreason = "backup"\n'
    )
    return tmp_path


@pytest.fixture
def url(folder: Path) -> str:
    address = f"sqlite:///{folder / 'data' / 'tentaculo.db'}"
    migrate.upgrade(address)
    once(address, partial(store.save, changed=[OPEN, ENDED]))
    return address


@pytest.fixture
def run(folder: Path) -> Run:
    def run(*words: str, code: int = 0) -> Result:
        found = CliRunner().invoke(cli, [*words, "-c", str(folder / "tentaculo.toml")])
        assert found.exit_code == code, found.output
        return found

    return run


def test_incidents_are_listed_the_newest_first(run: Run, url: str) -> None:
    first, second = run("incidents").output.splitlines()
    assert first.startswith("1790000000002  open ")
    assert " min  hermes +1: connection refused[2J" in first
    assert second.startswith("1790000000001  ended")
    assert len(run("incidents", "--open").output.splitlines()) == 1
    assert len(run("incidents", "--limit", "1").output.splitlines()) == 1
    assert [one["root"] for one in json.loads(run("incidents", "--json").output)] == ["hermes", "mcp"]


def test_one_incident_with_its_notes(run: Run, url: str) -> None:
    assert run("note", "1790000000002", "made room\nand more", "--author", "ana").output == (
        "The note was added to incident 1790000000002.\n"
    )
    shown = run("incidents", "1790000000002").output
    for words in (
        "also affected: operator",
        "came back 2 times",
        "at worst 50%",
        " UTC ana: made room\n    and more\n",
        "  2026-01-02 12:00 UTC 3 messages, the last failed on duty (incident.opened): answered 502\n",
        "  2026-01-02 13:00 UTC delivered on duty (incident.opened)\n",
    ):
        assert words in shown
    assert "ended" in run("incidents", "1790000000001").output
    told = json.loads(run("incidents", "1790000000002", "--json").output)
    assert [one["text"] for one in told["notes"]] == ["made room\nand more"]


def test_one_incident_with_what_came_before_those_of_its_service(run: Run, url: str) -> None:
    known, events = story(NOW + timedelta(days=5))
    fill(
        url,
        known,
        [msgspec.structs.replace(one, source=f"{one.source}\x1b[2J") if one.source == "ci" else one for one in events],
    )
    number = str(known[0].id)
    shown = run("incidents", number).output.splitlines()
    assert len(shown) == 3, "the incident, its end, and what is claimed"
    assert shown[2].startswith(
        "  5 of 6 incidents of madre were preceded within 10 minutes by deploy.started of ci[2J; on other days at that"
    )
    before = json.loads(run("incidents", number, "--json").output)["before"]
    assert [one["type"] for one in before["types"] if one["claimed"]] == ["deploy.started"]
    other = json.loads(run("incidents", "1790000000002", "--json").output)["before"]
    assert (other["service"], other["incidents"], other["types"]) == ("hermes", 1, [])


def test_an_open_incident_is_acknowledged(run: Run, url: str) -> None:
    words = ("acknowledge", "1790000000002", "Looking at the disk.", "--author")
    assert run(*words, "ana").output == "Incident 1790000000002 is acknowledged.\n"
    shown = run("incidents", "1790000000002").output
    assert " UTC by ana: Looking at the disk.\n" in shown
    run("acknowledge", "1790000000002", "--author", "jon")
    (told, _) = json.loads(run("incidents", "--json").output)
    assert (told["acknowledged"]["author"], told["acknowledged"]["note"]) == ("jon", None)


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (("acknowledge", "7", "--author", "ana"), "there is no incident 7"),
        (("acknowledge", "1790000000001", "--author", "ana"), "incident 1790000000001 is over"),
        (("acknowledge", "1790000000002"), "Missing option '--author'"),
        (("acknowledge", "1790000000002", "--author", " "), "author must be a line of 1 to 80 printable characters"),
        (("acknowledge", "1790000000002", "a\x1bb", "--author", "ana"), "note must be 0 to 4000 printable characters"),
        (("incidents", "7"), "there is no incident 7"),
        (("note", "7", "text"), "there is no incident 7"),
        (("note", "1790000000002", "  "), "text must be 1 to 4000 printable characters"),
        (("note", "1790000000002", "a\x1bb"), "text must be 1 to 4000 printable characters"),
        (("note", "1790000000002", "a", "--author", "x" * 81), "author must be a line of 0 to 80 printable characters"),
        (("note", "one", "text"), "not a valid integer"),
        (("maintenance", "add", "--for", "2h", "--reason", "x"), "needs the names of services, or --all"),
        (
            ("maintenance", "add", "mcp", "--all", "--for", "2h", "--reason", "x"),
            "needs the names of services, or --all",
        ),
        (("maintenance", "add", "mcp", "--reason", "x"), "needs either --for or --until"),
        (("maintenance", "add", "mcp", "--for", "two hours", "--reason", "x"), "must be a number and a unit"),
        (("maintenance", "add", "mcp", "--for", "900d", "--reason", "x"), "no more than a year"),
        (
            ("maintenance", "add", "nobody", "--for", "2h", "--reason", "x"),
            'services has "nobody", which is no service',
        ),
        (("maintenance", "add", "mcp", "--for", "2h", "--reason", " "), "reason must be a line of 1 to 200"),
        (("maintenance", "add", "mcp", "--until", "tomorrow", "--reason", "x"), "must be a time such as"),
        (("maintenance", "add", "mcp", "--until", "2001-01-01T00:00:00Z", "--reason", "x"), "must be later than"),
        (("maintenance", "add", "mcp", "--until", "2001-01-01T00:00:00", "--reason", "x"), "must say its offset"),
        (("maintenance", "add", "mcp", "--until", "9999-12-31T23:59:59-12:00", "--reason", "x"), "is out of range"),
        (("maintenance", "end", "7"), "there is no current or planned maintenance window 7"),
        (("alerts", "test"), "there are no alert channels"),
    ],
)
def test_what_cannot_be_is_said(run: Run, url: str, words: tuple[str, ...], fault: str) -> None:
    assert fault in run(*words, code=2).output


def test_maintenance_is_planned_listed_and_ended(run: Run, url: str) -> None:
    added = run("maintenance", "add", "herald", "--for", "90m", "--reason", "a new disk", "--author", "ana").output
    assert added.startswith("1           holds ")
    assert added.endswith("  hermes: a new disk\n")
    later = (NOW + timedelta(days=1)).isoformat()
    run("maintenance", "add", "--all", "--from", later, "--for", "2h", "--reason", "moving house")
    lines = run("maintenance", "list").output.splitlines()
    assert sorted(line.split()[0] for line in lines) == ["1", "2", "configured"]
    listed = json.loads(run("maintenance", "list", "--json").output)
    assert {one["reason"] for one in listed} == {"a new disk", "moving house", "backup"}
    assert run("maintenance", "end", "1").output == "Maintenance 1 of hermes is over.\n"
    run("maintenance", "end", "2")
    assert [line.split()[0] for line in run("maintenance", "list").output.splitlines()] == ["configured"]


def test_without_a_database_it_is_said_what_to_do(run: Run) -> None:
    for words in (("incidents",), ("note", "1", "x"), ("maintenance", "list"), ("maintenance", "end", "1")):
        assert "tentaculo db upgrade" in run(*words, code=3).output


def test_a_database_of_an_older_version_says_so(run: Run, folder: Path) -> None:
    migrate.upgrade(f"sqlite:///{folder / 'data' / 'tentaculo.db'}", "0002")
    assert "tentaculo db upgrade" in run("incidents", code=3).output


async def test_a_test_message_goes_to_every_channel_and_it_is_said_how_it_went(run: Run, folder: Path) -> None:
    file = folder / "tentaculo.toml"
    text = file.read_text()
    async with receiving() as receiver:
        duty = f'[alerts.webhooks.duty]\nurl = "{receiver.url}"\nsecrets = ["{SECRET}"]\n'
        file.write_text(text + duty)
        assert (await asyncio.to_thread(run, "alerts", "test")).output == "✓ duty                 answered 204\n"
        post = receiver.posts[0]
        told = standardwebhooks.Webhook(SECRET).verify(post.body, post.headers)
        assert told["type"] == "test"
        assert "Nothing is wrong" in told["data"]["text"]
        nobody = f'[alerts.webhooks.nobody]\nurl = "http://127.0.0.1:{free_port()}/a-secret"\nsecrets = ["{SECRET}"]\n'
        file.write_text(text + duty + nobody)
        said = await asyncio.to_thread(partial(run, "alerts", "test", code=1))
    assert sorted(said.output.splitlines()) == [
        "✓ duty                 answered 204",
        "✗ nobody               connection refused",
    ]


def test_what_each_channel_has_done(run: Run, folder: Path, url: str) -> None:
    assert "there are no alert channels" in run("alerts", "status", code=2).output
    with (folder / "tentaculo.toml").open("a") as file:
        for name in ("duty", "archive"):
            file.write(f'[alerts.webhooks.{name}]\nurl = "http://127.0.0.1:1/x"\nsecrets = ["{SECRET}"]\n')
    totals = ChannelTotals("duty", 7, 2, NOON, ONE, "answered 502\x1b[2J")
    once(url, partial(store.add_channels, totals=[totals]))
    assert run("alerts", "status").output.splitlines() == [
        "duty                 7 sent (last: 2026-01-02 12:00 UTC), 2 failed; last error 2026-01-02 13:00 UTC: answered 502[2J",
        "archive              0 sent (last: never), 0 failed",
    ]
    told = json.loads(run("alerts", "status", "--json").output)
    assert [(one["name"], one["kind"], one["sent"], one["last_error"]) for one in told] == [
        ("duty", "webhook", 7, "answered 502\x1b[2J"),
        ("archive", "webhook", 0, None),
    ]


def test_a_secret_is_made_that_the_configuration_takes(folder: Path) -> None:
    from tentaculo.config.incidents import secret_bytes

    made = CliRunner().invoke(cli, ["alerts", "secret"]).output.split('"')[1]
    assert len(secret_bytes(made)) == 32
