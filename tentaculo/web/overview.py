"""The overview of the fleet: a row or a line per service, in its order and groups. Pure.

Text that came from outside is made printable and cut to size here, and escaped by the template.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Final, NamedTuple

from markupsafe import Markup

from tentaculo.model.early_warning import EarlyWarning
from tentaculo.model.health import Health, ServiceView
from tentaculo.model.history import HistorySummary
from tentaculo.model.incident import Incident, MaintenanceWindow, Note
from tentaculo.model.page import NO_INFO, PageInfo
from tentaculo.model.service_rates import RecentRates, UsualRates
from tentaculo.model.text import printable
from tentaculo.model.timeline import Timeline
from tentaculo.web import timeline, wording
from tentaculo.web.languages import Language, language
from tentaculo.web.timeline import Axis, Range

MOST_CHILDREN: Final = 5
"""Services that fail because of another one and have a row of their own, per cause; the others are listed below."""
MOST_TROUBLES: Final = 30
MOST_QUIET: Final = 12
"""Services without trouble that have a row of their own; if there are more, they are all listed below."""
MOST_LISTED: Final = 400
MOST_GROUPS: Final = 50
"""Groups that can be chosen on the page; `?group=` shows each of the others too."""
SORTS: Final = ("state", "name", "p95", "failed", "up")


@dataclass(slots=True)
class Past:
    """What the database said for one range. The page reads it seldom, and renders often from the same."""

    timeline: Timeline = field(default_factory=Timeline)
    summaries: Mapping[str, HistorySummary] = field(default_factory=dict)
    rates: Mapping[str, RecentRates] = field(default_factory=dict)
    usual: Mapping[str, UsualRates] = field(default_factory=dict)
    warnings: Sequence[EarlyWarning] = ()
    public: Timeline | None = None
    """What everybody may see of `timeline`; None until a page needed it."""
    _curves: dict[str, tuple[Axis, str]] = field(default_factory=dict, repr=False)

    def usual_p95(self, service: str) -> float | None:
        """What is usual for the latency that is shown of a service, in seconds."""
        return usual_p95(self.rates.get(service), self.usual.get(service))

    def curve(self, service: str, axis: Axis, span: int) -> str:
        """The path of the latencies of a service. To draw it takes many times as long as the rest of a row, so it is drawn
        again only when the axis has moved."""
        known = self._curves.get(service)
        if known is None or known[0] != axis:
            points = timeline.p95_points(self.timeline.periods.get(service, ()))
            known = self._curves[service] = axis, timeline.curve(axis, span, points, self.usual_p95(service))
        return known[1]


@dataclass
class Fleet:
    """All that the overview is made of. What follows from it is computed once; what the database says is added."""

    now: datetime
    range: Range
    services: Sequence[ServiceView]
    incidents: Sequence[tuple[Incident, Sequence[Note]]] = ()
    """The open ones and the last that ended, from memory."""
    windows: Sequence[MaintenanceWindow] = ()
    timeline: Timeline | None = None
    """None where the database cannot be read now."""
    past: Past = field(default_factory=Past)
    sort: str = "state"
    wanted: str = ""
    """Part of the names of the services to list; empty lists all."""
    group: str = ""
    """Group of the services to list; empty lists all."""
    info: PageInfo = field(default_factory=PageInfo)
    is_public: bool = False
    """Whether it has only what everybody may see."""
    not_shown: str = ""
    """What stands in place of what not everybody may see."""
    t: Language = field(default_factory=lambda: language("en"))
    """Of the page's texts."""

    def add(self, past: Past) -> None:
        """Add what the database said, of its timeline only what may be shown."""
        self.past, self.timeline = past, past.public if self.is_public else past.timeline

    @cached_property
    def axis(self) -> Axis:
        """The axis of time, which ends now."""
        until = self.range.end(self.now)
        return Axis(until - self.range.seconds, until, self.info.zone)

    @cached_property
    def local_now(self) -> datetime:
        """The present in the zone of the page, for texts."""
        return self.info.local(self.now)

    @cached_property
    def worst(self) -> Sequence[ServiceView]:
        """The services of which the headline speaks."""
        return wording.worst(self.services)

    @cached_property
    def named(self) -> Sequence[str]:
        """The names of those with trouble that it names."""
        return wording.named_troubles(self.worst)

    @property
    def worst_incident(self) -> Incident | None:
        """The open incident of the worst trouble."""
        known = [self.open_incident(view.name) for view in self.worst[:1]]
        return known[0][0] if known and known[0] is not None else None

    def open_incident(self, root: str) -> tuple[Incident, Sequence[Note]] | None:
        """The open incident that the failure of `root` caused, with its notes."""
        return next((one for one in self.incidents if one[0].is_open and one[0].root == root), None)


@dataclass(frozen=True, slots=True)
class Row:
    """One service, ready to be shown."""

    anchor: str
    name: str
    href: str
    state: wording.State
    note: str
    is_child: bool
    bars: Markup
    curve: str
    p95: str
    usual_p95: str
    failed: str
    is_failing: bool
    rate: str
    up: str
    owner: str
    """Of a service with trouble of its own that the headline does not name, as is `runbook`; else empty."""
    runbook: str


class BriefRow(NamedTuple):
    """One service as one line of a list."""

    anchor: str
    name: str
    href: str
    state: wording.State
    bars: Markup
    p95: str


def anchor(name: str) -> str:
    """The id of a service's row."""
    return f"service-{name}"


def service_path(name: str) -> str:
    """The path of a service's own page. Names are letters, digits and hyphens."""
    return f"/status/services/{name}"


class Listing(NamedTuple):
    """Which services are shown, and how."""

    rows: list[ServiceView]
    """Those with a row of their own."""
    more: list[ServiceView]
    """Those for which there is no room among the rows."""
    quiet: list[ServiceView]
    """Those without trouble, where the list is by state."""
    is_folded: bool
    """Whether `quiet` are too many for a row of their own."""
    left_out: int
    """How many are not shown at all."""


def list_services(fleet: Fleet) -> Listing:
    """The services of the group whose name contains what is wanted: trouble first, then what fails because of it."""
    found = list(_wanted(fleet)) if fleet.wanted or fleet.group else list(fleet.services)
    if fleet.sort == "state":
        rows, more = _troubles([view for view in found if view.state in wording.TROUBLES])
        quiet = sorted([view for view in found if view.state not in wording.TROUBLES], key=_quiet_order)
    else:
        found.sort(key=lambda view: _sort_key(fleet, view))
        rows, more, quiet = found[: MOST_TROUBLES + MOST_QUIET], found[MOST_TROUBLES + MOST_QUIET :], []
    room = max(MOST_LISTED - len(more), 0)
    left_out = len(more[MOST_LISTED:]) + len(quiet[room:])
    return Listing(rows, more[:MOST_LISTED], quiet[:room], len(quiet) > MOST_QUIET, left_out)


def _wanted(fleet: Fleet) -> Iterator[ServiceView]:
    wanted = fleet.wanted.casefold()
    for view in fleet.services:
        is_named = any(wanted in name.casefold() for name in (view.name, *view.aliases))
        if is_named and fleet.group in ("", fleet.info.of(view.name).group):
            yield view


class Section(NamedTuple):
    """Services below one heading."""

    heading: str
    """A group; empty where there is no heading."""
    rows: Sequence[Row | BriefRow]


def sections(fleet: Fleet, views: Sequence[ServiceView], rows: Sequence[Row | BriefRow]) -> list[Section]:
    """The rows of `views` by group, in the order of the configuration; those of no group come last.

    Of one group alone, and without groups, there is no heading.
    """
    if not fleet.info.groups:
        return [Section("", rows)] if rows else []
    found: dict[str, list[Row | BriefRow]] = {group: [] for group in (*fleet.info.groups, "")}
    for view, made in zip(views, rows, strict=True):
        found[fleet.info.of(view.name).group].append(made)
    return [
        Section("" if fleet.group else printable(group, 60) or fleet.t("overview.other_services"), made)
        for group, made in found.items()
        if made
    ]


class Group(NamedTuple):
    """A group of services, which the page can show alone."""

    name: str
    state: wording.State
    """That of its worst service."""


def groups(fleet: Fleet) -> Iterator[Group]:
    """The first `MOST_GROUPS` groups, in the order of the configuration."""
    members: dict[str, list[ServiceView]] = {}
    for view in fleet.services if fleet.info.groups else ():
        members.setdefault(fleet.info.of(view.name).group, []).append(view)
    for name in fleet.info.groups[:MOST_GROUPS]:
        if name in members:
            yield Group(
                name, wording.state(min([view.state for view in members[name]], key=wording.RANKS.__getitem__), fleet.t)
            )


def _quiet_order(view: ServiceView) -> int:
    """Maintenance first, then what is up or unknown, as configured; what is off comes last."""
    return {Health.MAINTENANCE: 0, Health.OFF: 2}.get(view.health, 1)


def _troubles(views: Iterable[ServiceView]) -> tuple[list[ServiceView], list[ServiceView]]:
    """Those with trouble, each followed by what fails because of it; and those for which there is no room."""
    found = sorted(views, key=lambda view: wording.RANKS[view.state])
    names = {view.name for view in found}
    children: dict[str, list[ServiceView]] = {}
    for view in found:
        if view.root in names:
            children.setdefault(str(view.root), []).append(view)
    rows: list[ServiceView] = []
    below: list[ServiceView] = []
    for view in found:
        if view.root in names:
            continue
        under = children.get(view.name, [])
        room = len(rows) < MOST_TROUBLES
        (rows if room else below).append(view)
        rows += under[:MOST_CHILDREN] if room else []
        below += under[MOST_CHILDREN:] if room else under
    return rows, below


def _sort_key(fleet: Fleet, view: ServiceView) -> tuple[float, str]:
    rates, past = fleet.past.rates.get(view.name), fleet.past.summaries.get(view.name)
    match fleet.sort:
        case "p95":
            value = recent_p95(rates)
            return (-value if value is not None else 1.0, view.name)
        case "failed":
            share = rates.requests.share_ok if rates is not None else None
            return (share if share is not None else 2.0, view.name)
        case "up":
            quarter = past.quarter.share if past is not None else None
            return (quarter if quarter is not None else 2.0, view.name)
        case _:
            return (0.0, view.name)


def recent_p95(rates: RecentRates | None) -> float | None:
    """The 95th percentile of the last minutes in seconds: of requests, and of probes where there were none."""
    if rates is None:
        return None
    return (rates.requests if rates.requests.ok else rates.probes).latency.percentile(0.95)


def usual_p95(rates: RecentRates | None, usual: UsualRates | None) -> float | None:
    """What is usual for the latency that `recent_p95` returns."""
    if usual is None:
        return None
    return usual.requests_p95 if rates is not None and rates.requests.ok else usual.probes_p95


def brief_row(fleet: Fleet, view: ServiceView) -> BriefRow:
    """`view` as one line of a list."""
    return BriefRow(
        anchor(view.name),
        printable(view.name, 80),
        service_path(view.name),
        wording.state(view.state, fleet.t),
        _bars(fleet, view, 0, 6),
        fleet.t.latency(recent_p95(fleet.past.rates.get(view.name))),
    )


def _bars(fleet: Fleet, view: ServiceView, y: int, height: int) -> Markup:
    changes = fleet.timeline.changes.get(view.name, ()) if fleet.timeline is not None else ()
    return timeline.rects(timeline.bars(fleet.axis, changes, view.health, view.since), y, height)


def row(fleet: Fleet, view: ServiceView) -> Row:
    """`view` in words and shapes."""
    t = fleet.t
    state = wording.state(view.state, t)
    past = fleet.past
    rates, summary, expected = past.rates.get(view.name), past.summaries.get(view.name), past.usual_p95(view.name)
    share_ok = rates.requests.share_ok if rates is not None else None
    failed = None if share_ok is None else 1 - share_ok
    a_minute = rates.per_minute(rates.requests.ok + rates.requests.failed) if rates is not None else None
    # What fails because of another service is not for its own owner to mend.
    is_own = state.is_trouble and view.root is None and view.name not in fleet.named
    info = fleet.info.of(view.name) if is_own else NO_INFO
    return Row(
        anchor=anchor(view.name),
        name=printable(view.name, 80),
        href=service_path(view.name),
        state=state,
        # Of one that is up at its only address there is nothing to say.
        note="" if state.key == "up" and len(view.upstreams) == 1 else _note(view, state, t),
        is_child=view.root is not None and state.is_trouble and fleet.sort == "state",
        bars=_bars(fleet, view, 31, 4),
        curve=past.curve(view.name, fleet.axis, fleet.range.span),
        p95=t.latency(recent_p95(rates)),
        usual_p95=t.latency(expected) if expected is not None else "",
        failed=t.failed_share(failed),
        is_failing=bool(failed),
        rate="" if not a_minute else t("overview.per_minute", rate=t.rate(a_minute)),
        up=t.share(summary.quarter.share if summary is not None else None),
        owner=info.owner,
        runbook=info.runbook,
    )


def _note(view: ServiceView, state: wording.State, t: Language) -> str:
    if view.root is not None and state.is_trouble:
        return t("overview.fails_with", root=printable(view.root, 80))
    reason, total = wording.reason(view, t, 160), len(view.upstreams)
    usable = sum(map(wording.is_usable, view.upstreams)) if total > 1 else total
    if usable == total or _said_down(view, total) == total - usable:
        return wording.cut(reason, 160)
    healthy = t("overview.addresses_healthy", usable=usable, total=total)
    return wording.cut(f"{reason}; {healthy}", 160) if reason else healthy


def _said_down(view: ServiceView, total: int) -> object:
    """How many of the addresses of a service its reason says are down; None where it says nothing of that."""
    code, values = (view.cause.code, view.cause.values) if view.cause is not None else ("", {})
    return {"all_down": total, "one_down": 1, "some_down": values.get("count")}.get(code)
