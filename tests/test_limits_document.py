"""docs/limits.md says what the limits are."""

from __future__ import annotations

import re

from aiohttp.web_protocol import MAX_MSG_QUEUE_SIZE

from tentaculo.config.environment import LOOKUPS
from tentaculo.config.schema import Limits, Server
from tentaculo.config.section import keys_of
from tentaculo.errors import Failure
from tentaculo.events.wire import DEPTH
from tentaculo.proxy.answer import MAX_INTERIM
from tentaculo.proxy.upstream import MAX_IDLE, MAX_IDLE_UNSAFE
from tentaculo.proxy.wire import MAX_CHUNK_LINE, MAX_TRAILERS
from tentaculo.sockets import COUNT, IDLE, INTERVAL
from tentaculo.web.connection import LINGER, MAX_FIELDS
from tentaculo.web.intake import CHUNK_COST, MAX_CHUNK_EXCESS
from tests.gateway import ROOT

TEXT = (ROOT / "docs" / "limits.md").read_text(encoding="utf-8")


def test_every_key_is_there_with_its_default() -> None:
    rows = re.findall(r"(?m)^\| `(\w+)\.(\w+)` \| (\d+)", TEXT)
    told = {(section, key): int(default) for section, key, default in rows}
    limits = {("limits", key): getattr(Limits(), key) for key in keys_of(Limits)}
    server = {("server", key): getattr(Server(), key) for key in ("keepalive", "grace")}
    assert told == limits | server


def test_the_words_are_those_of_the_answers() -> None:
    answers = {(failure.status, failure.error) for failure in Failure}
    told = re.findall(r"\b([45]\d\d) `(\w+)`", TEXT)
    assert len(told) > 15
    assert {(int(status), error) for status, error in told} <= answers


def test_the_fixed_ones_are_as_in_the_code() -> None:
    fixed = TEXT.split("\n## ")[2]
    told = [
        [int(number) for number in re.findall(r"\d+", row.split(" | ")[1])] for row in re.findall(r"(?m)^\| .*", fixed)
    ]
    assert told[1:] == [
        [MAX_FIELDS],
        [MAX_CHUNK_EXCESS, CHUNK_COST],
        [MAX_CHUNK_LINE],
        [MAX_TRAILERS],
        [MAX_INTERIM],
        [MAX_MSG_QUEUE_SIZE],
        [DEPTH],
        [IDLE, COUNT, INTERVAL],
        [MAX_IDLE, MAX_IDLE_UNSAFE],
        [LOOKUPS],
        [LINGER],
    ]
