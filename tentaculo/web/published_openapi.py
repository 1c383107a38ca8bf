"""The OpenAPI operations of what other programs read of the status pages: documents, badges and feed. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from tentaculo.model.failure import Failure
from tentaculo.server.content_negotiation import LANGUAGE_PARAMETER, LANGUAGES
from tentaculo.server.openapi import (
    JsonObject,
    Operation,
    json_content,
    object_of,
    reference,
    response,
)
from tentaculo.web.badges import MOST_LABEL, MOST_MESSAGE, RANGES, SHOWS
from tentaculo.web.incident_feed import MEDIA_TYPE
from tentaculo.web.statuspage_api import DOCUMENTS, MOST_AFFECTED, MOST_INCIDENTS

SUMMARIES: Mapping[str, str] = {
    "summary": "State of the page, all components, and what is open or planned.",
    "status": "State of the page.",
    "components": "All components: the services, and their groups.",
    "incidents": "The newest incidents, open ones and others.",
    "unresolved": "The open incidents.",
    "maintenances": "Current and planned maintenance.",
    "upcoming": "Planned maintenance.",
    "active": "Current maintenance.",
}
"""What each of `statuspage_api.DOCUMENTS` has."""
_TEXT: JsonObject = {"type": "string"}
_NAMED: JsonObject = {"type": "string", "minLength": 1}
_FLAG: JsonObject = {"type": "boolean"}
_NULL: JsonObject = {"type": "null"}
_STATUSES = ["operational", "degraded_performance", "partial_outage", "major_outage", "under_maintenance"]
_INCIDENT_STATES = ["investigating", "identified", "resolved"]
_WINDOW_STATES = ["scheduled", "in_progress"]


def document_operation(name: str) -> Operation:
    """That of a document in Statuspage's form."""
    schema = reference(f"Statuspage{name.title()}")
    return Operation(
        f"statuspage{name.title()}",
        SUMMARIES[name],
        {200: response("The document, in Statuspage's form.", json_content(schema)), 304: _unchanged()},
        schemas=_schemas(),
    )


def badge_operation(form: str, *, is_one: bool) -> Operation:
    """That of the badges in this form: `svg` or `json`; of those of services where it `is_one`."""
    is_json = form == "json"
    content = json_content(reference("ShieldsBadge")) if is_json else json_content(_TEXT, "image/svg+xml")
    return Operation(
        f"{'service' if is_one else 'overall'}Badge{form.title()}",
        ("A service as a badge. " if is_one else "The headline as a badge. ")
        + ("In the form of shields.io's endpoint badge." if is_json else "A picture."),
        {200: response("The badge.", content), 304: _unchanged()},
        failures=[Failure.NOT_FOUND] if is_one else [],
        parameters=_parameters(is_one=is_one),
        # A badge says what is wrong with the request for a badge.
        refusal_contents=dict.fromkeys((400, 404) if is_one else (400,), content),
        schemas=_schemas(),
    )


def feed_operation() -> Operation:
    """That of the feed."""
    return Operation(
        "incidentFeed",
        "The open incidents and the last that ended, as an Atom feed.",
        {200: response("The feed.", {MEDIA_TYPE.partition(";")[0]: {"schema": _TEXT}}), 304: _unchanged()},
        failures=[Failure.STORE_UNAVAILABLE],
    )


def _unchanged() -> JsonObject:
    return {"description": "The client has it, as If-None-Match says."}


def _parameters(*, is_one: bool) -> list[JsonObject]:
    shows = list(SHOWS) if is_one else ["state"]
    found = [_parameter("show", "What it shows.", {"enum": shows, "default": "state"})]
    if is_one:
        found.append(_parameter("range", "Of which time the uptime is.", {"enum": list(RANGES), "default": "90d"}))
        name = {"name": "service", "in": "path", "required": True, "description": "Its name or an alias."}
        found.append({**name, "schema": {"type": "string", "pattern": "^[A-Za-z0-9-]+$"}})
    words = f"In which language, else that of Accept-Language; one of {', '.join(LANGUAGES)}, and others are ignored."
    return [*found, _parameter(LANGUAGE_PARAMETER, words, _TEXT)]


def _parameter(name: str, description: str, schema: JsonObject) -> JsonObject:
    return {"name": name, "in": "query", "description": description, "schema": schema}


def _nullable(schema: JsonObject) -> JsonObject:
    return {"anyOf": [schema, _NULL]}


def _list(name: str, most: int | None = None) -> JsonObject:
    found: JsonObject = {"type": "array", "items": reference(name)}
    return found if most is None else {**found, "maxItems": most}


def _schemas() -> dict[str, JsonObject]:
    time = reference("Time")
    page = object_of({"id": _NAMED, "name": _NAMED, "url": _NAMED, "time_zone": _NAMED, "updated_at": time})
    state = object_of({"indicator": {"enum": ["none", "minor", "major", "critical"]}, "description": _NAMED})
    members: dict[str, JsonObject] = {
        "components": _list("StatuspageComponent"),
        "incidents": _list("StatuspageIncident", MOST_INCIDENTS),
        "scheduled_maintenances": _list("StatuspageMaintenance", MOST_INCIDENTS),
    }
    documents = {
        f"Statuspage{name.title()}": object_of(
            {
                "page": reference("StatuspagePage"),
                **({"status": reference("StatuspageState")} if name in ("summary", "status") else {}),
                **{member: members[member] for member in lists},
            }
        )
        for name, lists in DOCUMENTS.items()
    }
    badge = object_of(
        {
            "schemaVersion": {"const": 1},
            "label": {"type": "string", "maxLength": MOST_LABEL},
            "message": {"type": "string", "maxLength": MOST_MESSAGE},
            "color": _NAMED,
            "labelColor": _NAMED,
            "isError": {"const": True, "description": "There is nothing to show."},
        },
        optional=("isError",),
    )
    return {
        "StatuspagePage": page,
        "StatuspageState": state,
        "StatuspageComponent": _component(),
        "StatuspageIncident": _event(
            _INCIDENT_STATES, {"impact": {"enum": ["minor", "major"]}, "resolved_at": _nullable(time)}
        ),
        "StatuspageMaintenance": _event(
            _WINDOW_STATES,
            {
                "impact": {"const": "maintenance"},
                "resolved_at": _NULL,
                "scheduled_for": time,
                "scheduled_until": time,
            },
        ),
        "StatuspageUpdate": _update(),
        "ShieldsBadge": badge,
        **documents,
    }


def _component() -> JsonObject:
    time = reference("Time")
    return object_of(
        {
            "id": _NAMED,
            "name": _NAMED,
            "description": _nullable(_NAMED),
            "status": {"enum": _STATUSES},
            "created_at": time,
            "updated_at": time,
            "start_date": _NULL,
            "position": {"type": "integer", "minimum": 1},
            "showcase": _FLAG,
            "only_show_if_degraded": _FLAG,
            "group": {"type": "boolean", "description": "Whether it is a group, which has `components`."},
            "group_id": _nullable(_NAMED),
            "page_id": _NAMED,
            "components": {"type": "array", "items": _NAMED, "description": "The ids of its members."},
        },
        optional=("components",),
    )


def _event(states: list[str], members: Mapping[str, JsonObject]) -> JsonObject:
    """What incidents and maintenance have in common."""
    time = reference("Time")
    return object_of(
        {
            "id": _NAMED,
            "name": _TEXT,
            "status": {"enum": states},
            "created_at": time,
            "updated_at": time,
            "started_at": time,
            "monitoring_at": _NULL,
            "page_id": _NAMED,
            **members,
            "shortlink": _NAMED,
            "incident_updates": _list("StatuspageUpdate"),
            "components": _list("StatuspageComponent", MOST_AFFECTED),
        }
    )


def _update() -> JsonObject:
    time = reference("Time")
    return object_of(
        {
            "id": _NAMED,
            "incident_id": _NAMED,
            "status": {"enum": [*_INCIDENT_STATES, *_WINDOW_STATES]},
            "body": _TEXT,
            "created_at": time,
            "updated_at": time,
            "display_at": time,
            "affected_components": _NULL,
            "deliver_notifications": {"const": False},
            "custom_tweet": _NULL,
            "tweet_id": _NULL,
        }
    )
