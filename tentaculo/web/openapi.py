"""The OpenAPI description of the paths of this package. Loaded when the document is first read, and pure."""

from __future__ import annotations

from tentaculo.server.openapi import TOKEN, Description, json_content, object_of, operation, reference, response


def describe(*, is_guarded: bool) -> Description:
    """The paths; `is_guarded` says whether the gateway asks for tokens."""
    ticket = object_of(
        {
            "ticket": {"type": "string"},
            "expires_in": {"type": "integer", "description": "Seconds."},
            "expires_at": reference("Time"),
        }
    )
    issue = operation(
        "A ticket for an EventSource or a WebSocket, which cannot send a token.",
        {201: response("It works once.", json_content(reference("Ticket")))},
        id_="issueTicket",
        security=TOKEN if is_guarded else (),
    )
    return Description({"/auth/ticket": {"post": issue}}, {"Ticket": ticket})
