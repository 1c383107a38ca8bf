"""The feed of incidents, as it comes over HTTP."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID
from xml.etree import ElementTree as ET

import feedparser
import pytest

from tentaculo.config.accepted_tokens import AuthSettings
from tentaculo.model.incident import Acknowledgement
from tentaculo.model.page import PageInfo
from tentaculo.model.reason import because
from tentaculo.web.incident_feed import entry
from tentaculo.web.languages import language
from tests.support.native_gateway import NOW, PAGE, TOKEN, Gateway, State, running
from tests.web.test_incident_list import ended
from tests.web.test_incidents import HERMES, MCP, NOTE
from tests.web.test_status_page import HOSTILE

ATOM = "{http://www.w3.org/2005/Atom}"
MINUTE = timedelta(minutes=1)
FEED = {"id": 1, "title": 1, "updated": 1, "author": 1, "generator": 1, "link": 2}
ENTRY = {"id": 1, "title": 1, "updated": 1, "published": 1, "link": 1, "category": 1, "summary": 1}
"""What each element holds, and how many of each (RFC 4287, sections 4.1.1 and 4.1.2)."""


async def feed(gateway: Gateway, **headers: str) -> str:
    async with gateway.client.get("/status/incidents.atom", headers=headers) as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == "application/atom+xml; charset=utf-8"
        return await response.text()


def checked(text: str) -> Any:
    """The feed as a reader sees it, after a check that RFC 4287 allows all of it."""
    root = ET.fromstring(text)
    assert root.tag == f"{ATOM}feed"
    entries = root.findall(f"{ATOM}entry")
    held = Counter(one.tag.removeprefix(ATOM) for one in root if one.tag != f"{ATOM}entry")
    assert dict(held) == FEED
    for one in entries:
        assert dict(Counter(child.tag.removeprefix(ATOM) for child in one)) == ENTRY
    for one in root.iter():
        if one.tag in (f"{ATOM}updated", f"{ATOM}published"):
            assert datetime.strptime(one.text or "", "%Y-%m-%dT%H:%M:%SZ")  # noqa: DTZ007
        if one.tag == f"{ATOM}link":
            assert urlsplit(one.get("href", "")).scheme == "https"
    ids = [one.findtext(f"{ATOM}id") for one in (root, *entries)]
    assert len(set(ids)) == len(ids)
    assert all(one is not None and UUID(one).urn == one for one in ids)
    found = feedparser.parse(text)
    assert not found.bozo, found.get("bozo_exception")
    assert found.version == "atom10"
    assert len(found.entries) == len(entries)
    return found


async def test_it_has_the_open_ones_and_the_last_that_ended(gateway: Gateway) -> None:
    gateway.state.books.incidents = [HERMES, MCP, *(ended(n, 40 - n) for n in range(30, 0, -1))]
    gateway.state.in_memory = 2
    found = checked(await feed(gateway))
    assert found.feed.title == "Incidents · Tentáculo Link"
    assert found.feed.updated == "2026-03-14T14:49:26Z"
    assert [one.rel for one in found.feed.links] == ["self", "alternate"]
    assert len(found.entries) == 1 + 25
    last, first = found.entries[:2]
    assert (last.title, last.updated) == ("Over: mcp was down", "2026-03-14T14:49:26Z")
    assert (first.title, first.link) == ("hermes is down", f"{PAGE}/status/incidents/{HERMES.id}")
    assert first.summary == "connection refused. operator fails with it. It failed again 2 times."
    assert (first.published, first.tags[0].term) == ("2026-03-14T14:44:26Z", "open")


async def test_without_incidents_it_is_valid_too(gateway: Gateway) -> None:
    assert checked(await feed(gateway)).entries == []


async def test_it_has_only_what_everybody_may_see() -> None:
    state = State()
    cause = because("answered_but", status=503, what="secret words of 10.9.8.7")
    known = Acknowledgement(1, HERMES.id, NOW, "secret-name", "secret note")
    state.books.incidents = [
        replace(HERMES, reason=str(cause), cause=cause, acknowledged=known),
        replace(MCP, reason="secret", ending="It is healthy again: secret words"),
    ]
    state.books.notes = {HERMES.id: [replace(NOTE, text="secret note")]}
    # For every reader: it is kept and shown to others by services that collect feeds.
    async with running(state, AuthSettings(open_status=False)) as gateway:
        async with gateway.client.get("/status/incidents.atom") as response:
            assert response.status == 401
        text = await feed(gateway, **{"X-VX11-Token": TOKEN})
    assert "secret" not in text
    assert "10.9.8.7" not in text
    summary = checked(text).entries[0].summary
    assert summary == "answered 503, but … operator fails with it. It failed again 2 times. It is acknowledged."


def test_an_entry_is_updated_when_something_happens_and_never_goes_back() -> None:
    acknowledgement = Acknowledgement(1, HERMES.id, NOW - 20 * MINUTE, "ana")
    steps = [
        replace(HERMES, reopened=0),
        replace(HERMES, acknowledged=acknowledgement),
        replace(HERMES, acknowledged=acknowledgement, seen_at=NOW),
        replace(HERMES, acknowledged=acknowledgement, ended_at=NOW - 15 * MINUTE),
        replace(HERMES, acknowledged=acknowledgement, reopened_at=NOW - 14 * MINUTE),
        replace(HERMES, acknowledged=acknowledgement, reopened_at=NOW - 14 * MINUTE, ended_at=NOW - 10 * MINUTE),
    ]
    entries = [entry(one, f"{PAGE}/status", "a1b2c3", language("en")) for one in steps]
    assert len({one.id for one in entries}) == 1
    assert [one.updated[11:16] for one in entries] == ["14:44", "14:49", "14:49", "14:54", "14:55", "14:59"]


async def ids(gateway: Gateway, **headers: str) -> list[str]:
    gateway.state.clock += 2
    found = checked(await feed(gateway, **headers))
    return [found.feed.id, *(one.id for one in found.entries)]


async def test_its_ids_are_those_of_the_log_whatever_the_address_and_the_language(gateway: Gateway) -> None:
    gateway.state.books.incidents = [HERMES, MCP]
    known = await ids(gateway)
    # Written down: they never change, or every reader shows every incident again.
    assert known[0] == "urn:uuid:4c814e8b-8727-5479-84b3-83a39dd1b4e8"
    gateway.state.page_host = "https://other.example.net"
    assert await ids(gateway) == known
    assert await ids(gateway, **{"Accept-Language": "es"}) == known
    gateway.state.log_name = "d4e5f6"
    assert set(await ids(gateway)).isdisjoint(known), "another gateway has other incidents"


async def test_until_the_log_is_known_a_reader_is_asked_to_come_back(gateway: Gateway) -> None:
    gateway.state.log_name = ""
    async with gateway.client.get("/status/incidents.atom") as response:
        assert (response.status, response.headers["Retry-After"]) == (503, "5")


@pytest.mark.parametrize(
    ("code", "title", "summary"),
    [
        ("es", "Incidentes · Tentáculo Link", "Alguien se ocupa de él."),
        ("pt", "Incidentes · Tentáculo Link", "Alguém está cuidando dele."),
    ],
)
async def test_it_is_in_the_language_of_its_reader(gateway: Gateway, code: str, title: str, summary: str) -> None:
    known = Acknowledgement(1, HERMES.id, NOW, "ana")
    gateway.state.books.incidents = [replace(HERMES, acknowledged=known), MCP]
    text = await feed(gateway, **{"Accept-Language": f"{code}, en;q=0.5"})
    found = checked(text)
    assert f'xml:lang="{code}"' in text
    assert found.feed.title == title
    assert found.entries[0].summary.endswith(summary)
    assert found.entries[1].title.startswith("Terminado: mcp ")


async def test_what_has_not_changed_is_not_sent_again(gateway: Gateway) -> None:
    state = gateway.state
    state.books.incidents = [HERMES]
    async with gateway.client.get("/status/incidents.atom") as response:
        tag = response.headers["ETag"]
    state.clock += 2
    state.now += 2 * MINUTE
    state.books.incidents = [replace(HERMES, seen_at=state.now)]
    known = {"If-None-Match": tag}
    async with gateway.client.get("/status/incidents.atom", headers=known) as response:
        assert (response.status, await response.read()) == (304, b"")
        assert response.headers["Content-Type"] != "text/html; charset=utf-8"
    state.clock += 2
    state.books.incidents = [replace(HERMES, ended_at=state.now)]
    async with gateway.client.get("/status/incidents.atom", headers=known) as response:
        assert response.status == 200


async def test_text_from_outside_cannot_break_it(gateway: Gateway) -> None:
    controls = "".join(map(chr, range(0x20))) + "\x7f\x85\ufffe\uffff\ud800\u202e]]>&amp;"
    state = gateway.state
    hostile = HOSTILE + controls
    state.books.incidents = [
        replace(
            HERMES,
            root=hostile,
            services=(hostile, hostile),
            cause=because("failed_at", what=because("answered", status=5), paths=hostile),
        ),
        replace(MCP, ending=hostile),
    ]
    found = checked(await feed(gateway))
    assert "<script>alert(1)</script>" in found.entries[1].title
    assert "\u202e" not in found.entries[1].summary


async def test_a_lost_database_leaves_what_is_in_memory(gateway: Gateway) -> None:
    gateway.state.lost = "The database file fleet.db is damaged."
    gateway.state.books.incidents = [HERMES]
    text = await feed(gateway)
    assert [one.title for one in checked(text).entries] == ["hermes is down"]
    assert "fleet.db" not in text


async def test_its_title_is_that_of_the_pages() -> None:
    state = State(info=PageInfo(title="Ana's <fleet>"))
    async with running(state) as gateway:
        root = ET.fromstring(await feed(gateway))
    assert root.findtext(f"{ATOM}title") == "Incidents · Ana's <fleet>"
