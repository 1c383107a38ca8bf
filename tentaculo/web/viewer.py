"""For whom a page is rendered, and what everybody may see: states, times and numbers, and of a reason its code and values.

No text of a service, no address, no event, no note, and no name of a channel or of a person.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice

from aiohttp import web

from tentaculo.model.health import EndpointView, Health, ServiceView, StateChange
from tentaculo.model.incident import Incident, Note
from tentaculo.model.scopes import INCIDENTS_WRITE
from tentaculo.model.timeline import Timeline
from tentaculo.server.caller import SENDER, may
from tentaculo.server.native_routes import Slices
from tentaculo.web import incident_words, wording
from tentaculo.web.languages import Language, language, language_of


@dataclass(frozen=True, slots=True)
class Viewer:
    """What a page depends on beside its address. Equal viewers are shown the same page, which is rendered once."""

    is_signed_in: bool = False
    """Whether addresses, what services said, notes and names of callers are shown."""
    has_session: bool = False
    """Whether it is a browser that has signed in: it may sign out."""
    may_act: bool = False
    """Whether its token has the scope of the actions on the pages, so that they are offered."""
    language: str = "en"
    """Of the page's text: a code of `content_negotiation.LANGUAGES`."""
    can_sign_in: bool = True
    """Whether there is a sign-in. A gateway that asks for no token has none."""

    @property
    def texts(self) -> Language:
        """The texts of the page, numbers and times in this language."""
        return language(self.language)

    @property
    def not_shown(self) -> str:
        """What stands in place of what is not shown to everybody."""
        return self.texts("incident.after_sign_in" if self.can_sign_in else "incident.not_public")


def viewer_of(request: web.Request, *, is_public: bool, can_sign_in: bool) -> Viewer:
    """The viewer who sent `request`. Where the pages are not public only callers with a token or a session reach them.

    `?as=public` asks for what everybody may see, also for a viewer who has signed in.
    """
    sender = request.get(SENDER)
    is_known = sender is not None and sender.is_authenticated
    as_public = request.query.get("as") == "public"
    has_session = sender is not None and sender.session is not None and not as_public
    return Viewer(
        is_signed_in=(is_known or not is_public) and not as_public,
        has_session=has_session,
        may_act=has_session and may(request, INCIDENTS_WRITE),
        language=language_of(request),
        can_sign_in=can_sign_in,
    )


OF_THE_OPERATOR = frozenset((Health.MAINTENANCE, Health.OFF))
"""States whose reason is a text of the operator, for everybody."""


def public_view(view: ServiceView) -> ServiceView:
    """A service without what it said."""
    cause = wording.public(view.cause)
    reason = view.reason if view.health in OF_THE_OPERATOR else str(cause or "")
    upstreams = tuple(map(_public_endpoint, view.upstreams))
    return replace(view, reason=reason, cause=cause, upstreams=upstreams, snippet=None)


def public_incidents(known: Sequence[tuple[Incident, Sequence[Note]]]) -> list[tuple[Incident, Sequence[Note]]]:
    """Incidents, without their notes."""
    return [(incident_words.without_private(incident), ()) for incident, _ in known]


async def public_timeline(found: Timeline, slices: Slices) -> Timeline:
    """The past, without events and without what services said."""
    # A service that flaps has thousands of changes, so that one change is a step.
    steps = (_public_change(change) for known in found.changes.values() for change in known)
    changes = iter(await slices.collect(steps))
    return replace(
        found,
        changes={service: tuple(islice(changes, len(known))) for service, known in found.changes.items()},
        incidents=tuple(map(incident_words.without_private, found.incidents)),
        earlier={root: incident_words.without_private(incident) for root, incident in found.earlier.items()},
        events=(),
        just_before={},
    )


def _public_change(change: StateChange) -> StateChange:
    cause = wording.public(change.cause)
    reason = "" if cause is None else str(cause)
    # `replace` takes four times as long, and a page has hundreds.
    return StateChange(
        change.service, change.endpoint, change.before, change.after, reason, change.at, change.kind, cause
    )


def _public_endpoint(view: EndpointView) -> EndpointView:
    breaker = view.breaker
    if breaker.reason is None and breaker.cause is None:
        return view
    cause = wording.public(breaker.cause)
    return replace(view, breaker=replace(breaker, reason=None if cause is None else str(cause), cause=cause))
