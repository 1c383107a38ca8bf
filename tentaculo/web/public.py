"""What everybody may see of a fleet: states, times and numbers, and of a reason its code and values. Pure.

No text of a service, no address, no event, no note, and no name of a channel or of a person.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tentaculo.model.health import BreakerView, Health, ServiceView
from tentaculo.model.incident import Incident, Note
from tentaculo.model.reason import Reason
from tentaculo.model.timeline import Timeline
from tentaculo.web import incident_words

AFTER_SIGN_IN = "Shown after sign-in."
"""In the place of what only some may see."""
OF_THE_OPERATOR = frozenset((Health.MAINTENANCE, Health.OFF))
"""States whose reason is a text of the operator, for everybody."""


def public_view(view: ServiceView) -> ServiceView:
    """A service without what it said."""
    reason = view.reason if view.health in OF_THE_OPERATOR else shown_reason(view.cause)
    upstreams = tuple(replace(one, breaker=_public_breaker(one.breaker)) for one in view.upstreams)
    return replace(view, reason=reason, upstreams=upstreams, snippet=None)


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


def shown_reason(reason: Reason | None) -> str:
    """A reason without the texts of a service; empty where there is none, or none that this version knows."""
    try:
        return "" if reason is None else str(reason.public)
    except (KeyError, ValueError, TypeError, AttributeError):
        return ""  # a later version wrote a code or values that this one does not know


def _public_breaker(breaker: BreakerView) -> BreakerView:
    return replace(breaker, reason=shown_reason(breaker.cause) or None)
