"""docs/limits.md names every limit, and only error words that exist."""

from __future__ import annotations

import re

from tentaculo.config.limits import LimitSettings
from tentaculo.config.listening import ServerSettings
from tentaculo.config.section import keys_of
from tentaculo.config.storage import EventSettings
from tentaculo.model.failure import Failure
from tests.support.gateway_process import ROOT

TEXT = (ROOT / "docs" / "limits.md").read_text(encoding="utf-8")


def test_every_key_is_there_with_its_default() -> None:
    rows = re.findall(r"(?m)^\| `(\w+)\.(\w+)` \| [^|]+ \| (\d+)", TEXT)
    documented = {(section, key): int(default) for section, key, default in rows}
    # Those of requests are described apart.
    apart = {"instances", "routes", "own_paths"}
    limits = {("limits", key): getattr(LimitSettings(), key) for key in keys_of(LimitSettings) if key not in apart}
    server = {("server", key): getattr(ServerSettings(), key) for key in ("keepalive", "grace", "handover_grace")}
    events = {("events", key): getattr(EventSettings(), key) for key in keys_of(EventSettings) if key != "correlate"}
    assert documented == limits | server | events


def test_its_error_words_exist() -> None:
    known = {(failure.status, failure.error) for failure in Failure}
    documented = re.findall(r"\b([45]\d\d) `(\w+)`", TEXT)
    assert len(documented) > 15
    assert {(int(status), error) for status, error in documented} <= known
