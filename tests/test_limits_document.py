"""docs/limits.md says what the limits are."""

from __future__ import annotations

import re

from aiohttp.web_protocol import MAX_MSG_QUEUE_SIZE

from tentaculo.config.environment import LOOKUPS
from tentaculo.config.schema import LimitSettings, ServerSettings
from tentaculo.config.section import keys_of
from tentaculo.events.json_codec import DEPTH
from tentaculo.model.failure import Failure
from tentaculo.net.http1 import MAX_CHUNK_LINE, MAX_TRAILERS
from tentaculo.net.tcp import COUNT, IDLE, INTERVAL
from tentaculo.server.connection import LINGER, MAX_FIELDS
from tentaculo.server.request_receiver import CHUNK_COST, MAX_CHUNK_EXCESS
from tentaculo.upstream.pool import MAX_IDLE, MAX_IDLE_UNSAFE
from tentaculo.upstream.response_reader import MAX_INTERIM
from tests.support.gateway_process import ROOT

TEXT = (ROOT / "docs" / "limits.md").read_text(encoding="utf-8")


def test_every_key_is_there_with_its_default() -> None:
    rows = re.findall(r"(?m)^\| `(\w+)\.(\w+)` \| (\d+)", TEXT)
    told = {(section, key): int(default) for section, key, default in rows}
    limits = {("limits", key): getattr(LimitSettings(), key) for key in keys_of(LimitSettings)}
    server = {("server", key): getattr(ServerSettings(), key) for key in ("keepalive", "grace")}
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
