"""What everybody may see of a fleet: states, times and numbers, and of a reason its code and values. Pure.

No text of a service, no address, no event, no note, and no name of a channel or of a person.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tentaculo.model.health import BreakerView, Health, ServiceView
from tentaculo.model.incident import Incident, Note
from tentaculo.model.timeline import Timeline
from tentaculo.web import incident_words, reasons

OF_THE_OPERATOR = frozenset((Health.MAINTENANCE, Health.OFF))
"""States whose reason is a text of the operator, for everybody."""


def public_view(view: ServiceView) -> ServiceView:
    """A service without what it said."""
    cause = reasons.public(view.cause)
    reason = view.reason if view.health in OF_THE_OPERATOR else str(cause or "")
    upstreams = tuple(replace(one, breaker=_public_breaker(one.breaker)) for one in view.upstreams)
    return replace(view, reason=reason, cause=cause, upstreams=upstreams, snippet=None)


def public_incidents(known: Sequence[tuple[Incident, Sequence[Note]]]) -> list[tuple[Incident, Sequence[Note]]]:
    """Incidents, without their notes."""
    return [(incident_words.without_private(incident), ()) for incident, _ in known]


def public_timeline(found: Timeline) -> Timeline:
    """The past, without events and without the reasons of changes, which have no code."""
    return replace(
        found,
        changes={
            service: tuple(replace(change, reason="") for change in known) for service, known in found.changes.items()
        },
        incidents=tuple(map(incident_words.without_private, found.incidents)),
        earlier={root: incident_words.without_private(incident) for root, incident in found.earlier.items()},
        events=(),
        just_before={},
    )


def _public_breaker(breaker: BreakerView) -> BreakerView:
    cause = reasons.public(breaker.cause)
    return replace(breaker, reason=None if cause is None else str(cause), cause=cause)
