"""Whatever of ours parses bytes, by name: each target takes some, and fails where what must hold does not."""

from __future__ import annotations

from collections.abc import Callable

from tests.fuzz import relayed, told

TARGETS: dict[str, Callable[[bytes], None]] = {
    function.__name__: function
    for function in (
        *(relayed.answer, relayed.chunks, relayed.answer_to_client, relayed.request_to_upstream),
        *(relayed.provenance, relayed.target, relayed.request_line),
        *(told.events, told.config, told.origin, told.accept),
    )
}
