"""What the query string of the page of events asks for, and which part of the log that is. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final, NamedTuple
from urllib.parse import urlencode

from tentaculo.model.event import MAX_EVENT_ID, EventFilter, LogRequest
from tentaculo.model.failure import Failure, Problem
from tentaculo.model.health import GATEWAY_NAME
from tentaculo.web.event_text import PUBLIC_TYPES
from tentaculo.web.timeline import RANGES, Range

LONGEST: Final = 256
"""Characters of one filter."""
MOST_VALUES: Final = 20
"""Types or sources of one filter."""
DEFAULT_RANGE: Final = "24h"
PRIVATE: Final = ("type", "source", "correlation", "text")
"""Filters that count only for who is signed in: they would find what is not shown."""


class Kind(NamedTuple):
    """A choice of what kind of events is listed."""

    types: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    not_source: str = ""
    is_public: bool = True


KINDS: Final = {
    "all": Kind(),
    "services": Kind(not_source=GATEWAY_NAME, is_public=False),
    "incidents": Kind(PUBLIC_TYPES[1:], (GATEWAY_NAME,)),
    "health": Kind(PUBLIC_TYPES[:1], (GATEWAY_NAME,)),
    "gateway": Kind((), (GATEWAY_NAME,), is_public=False),
}


@dataclass(frozen=True, slots=True)
class EventsQuery:
    """The filters of the page, its stretch of time, and its position in the log."""

    range: Range
    to: datetime | None = None
    """The end of the time; None is now."""
    kind: str = "all"
    type: str = ""
    source: str = ""
    service: str = ""
    """The name of a service, or a text that is none."""
    correlation: str = ""
    text: str = ""
    before: int | None = None
    after: int | None = None

    @classmethod
    def read(
        cls, query: Mapping[str, str], names: Mapping[str, str], zone: tzinfo, *, is_signed_in: bool
    ) -> EventsQuery:
        """Raises `Problem` (400) for a value that is none. `names` gives the service of each name and alias.

        A time without a zone is one of `zone`, that of the page. Other parameters are ignored, and so are those of `PRIVATE` for who is not signed in.
        """
        key, kind = query.get("range") or DEFAULT_RANGE, query.get("kind") or "all"
        if key not in RANGES:
            raise Problem(Failure.BAD_REQUEST, f"range may be {', '.join(RANGES)}.")
        if kind not in KINDS:
            raise Problem(Failure.BAD_REQUEST, f"kind may be {', '.join(KINDS)}.")
        service = query.get("service", "").strip()[:LONGEST]
        texts = {name: query.get(name, "").strip()[:LONGEST] if is_signed_in else "" for name in PRIVATE}
        return cls(
            range=RANGES[key],
            to=_moment(query.get("to", "").strip(), zone),
            kind=kind if is_signed_in or KINDS[kind].is_public else "all",
            service=names.get(service, service),
            before=_position(query, "before"),
            after=_position(query, "after"),
            **texts,
        )

    @property
    def is_filtered(self) -> bool:
        """Whether something beside the time is chosen."""
        return self.kind != "all" or any((self.type, self.source, self.service, self.correlation, self.text))

    @property
    def is_search(self) -> bool:
        """Whether rows have to be looked at one by one."""
        return bool(self.service or self.correlation or self.text)

    @property
    def is_at_end(self) -> bool:
        """Whether it shows what is newest now."""
        return self.to is None and self.before is None and self.after is None

    def until(self, now: datetime) -> datetime:
        """The end of its time."""
        return now if self.to is None else self.to

    def since(self, now: datetime) -> datetime:
        """The beginning of its time."""
        return self.until(now) - timedelta(seconds=self.range.seconds)

    def request(self, now: datetime, names_of: Mapping[str, Sequence[str]], *, is_signed_in: bool) -> LogRequest:
        """The part of the log. `names_of` has the name and the aliases of each service."""
        kind = KINDS[self.kind]
        types, sources = _values(self.type) or kind.types, _values(self.source) or kind.sources
        if not is_signed_in:
            types, sources = kind.types or PUBLIC_TYPES, (GATEWAY_NAME,)
        wanted = EventFilter(
            types=types,
            sources=sources,
            since=self.since(now),
            until=self.to,
            text=self.text,
            about=tuple(names_of.get(self.service, ())) if self.service else (),
            correlation=self.correlation,
            not_source=kind.not_source,
        )
        return LogRequest(wanted, self.before, self.after)

    def json_link(self, now: datetime, names_of: Mapping[str, Sequence[str]]) -> str:
        """The address of the same events as JSON, for who is signed in.

        A time that ends now begins at a whole minute, so that the address stays the same for as long.
        """
        request = self.request(now, names_of, is_signed_in=True)
        wanted, since = request.wanted, self.since(now)
        said: dict[str, object] = {
            "type": wanted.types,
            "source": wanted.sources,
            "not_source": wanted.not_source,
            "from": f"{since.replace(second=0) if self.to is None else since:%Y-%m-%dT%H:%M:%SZ}",
            "to": "" if self.to is None else f"{self.to:%Y-%m-%dT%H:%M:%SZ}",
            "text": wanted.text,
            "about": wanted.about,
            "correlation": wanted.correlation,
            "before": request.before,
            "after": request.after if request.before is None else None,
        }
        chosen = {name: value for name, value in said.items() if value not in (None, "", ())}
        return f"/events?{urlencode(chosen, doseq=True, errors='replace')}"

    def link(self, **changes: str | int | Range | None) -> str:
        """The address of the same page with `changes`; it begins at the newest event, unless they have a position."""
        other = replace(self, **{"before": None, "after": None, **changes})  # type: ignore[arg-type]
        texts: dict[str, str | int | None] = {
            "range": other.range.key if other.range.key != DEFAULT_RANGE else None,
            "to": None if other.to is None else other.to.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "kind": other.kind if other.kind != "all" else None,
            **{name: getattr(other, name) for name in ("service", *PRIVATE)},
            "before": other.before,
            "after": other.after,
        }
        said = urlencode({name: value for name, value in texts.items() if value not in (None, "")}, errors="replace")
        return f"/status/events?{said}" if said else "/status/events"


def _values(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))[:MOST_VALUES]


def _position(query: Mapping[str, str], name: str) -> int | None:
    text = query.get(name, "")
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= 16 and int(text) <= MAX_EVENT_ID):
        raise Problem(Failure.BAD_REQUEST, f"{name} must be the event_id of an event.")
    return int(text)


def _moment(text: str, zone: tzinfo) -> datetime | None:
    """A time with its zone, or of `zone`, as UTC. A `+` of a query that was not escaped arrives as a space."""
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text.replace(" ", "+", 1) if "T" in text else text)
        found = (found if found.tzinfo else found.replace(tzinfo=zone)).astimezone(UTC)
        found.timestamp()
    except (ValueError, OverflowError):
        raise Problem(Failure.BAD_REQUEST, "to must be a time such as 2026-01-02T03:04:05Z.") from None
    if not 2000 <= found.year < 2200:
        raise Problem(Failure.BAD_REQUEST, "to must be a time of this century or the next.")
    return found
