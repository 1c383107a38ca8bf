"""Request ids: the one that a trusted proxy sent, or a new one."""

from __future__ import annotations

import itertools
import re
import secrets
from collections.abc import Mapping

_REQUEST_ID = re.compile(rb"[A-Za-z0-9_.:+/=-]{1,128}")


class RequestIds:
    """Ids that tell requests apart in logs: a random start and a counter, so that one costs next to nothing."""

    def __init__(self) -> None:
        self._start = secrets.token_hex(6)
        self._counter = itertools.count(1)

    def __repr__(self) -> str:
        return f"<RequestIds {self._start}>"

    def next(self, known: Mapping[bytes, bytes] | None) -> str:
        """The id for a request: the one a trusted peer gave (`known`) if it is plain, else a new one."""
        if known is not None:
            given = known.get(b"x-request-id")
            if given is not None and _REQUEST_ID.fullmatch(given):
                return given.decode("ascii")
        return f"{self._start}-{next(self._counter):x}"
