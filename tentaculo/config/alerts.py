"""The tables `[incidents]` and `[alerts]`: what counts as one incident, and where it is notified."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from tentaculo.config.section import NOT_EMPTY, Check, Doc, Section, at_least, at_most
from tentaculo.config.types import AnySecret, Origin, Pause, Seconds, Secret

SECRET_PREFIX = "whsec_"  # noqa: S105 - how a secret begins
_LEAST_BYTES, _MOST_BYTES = 24, 64
_CHANNEL_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,62}[A-Za-z0-9])?")
_APPRISE_SCHEME = re.compile(r"[A-Za-z0-9]{1,32}://\S+")


def secret_bytes(secret: str) -> bytes:
    """The key that a `whsec_…` secret stands for (Standard Webhooks, "Signature scheme"). Raises ValueError."""
    if not secret.startswith(SECRET_PREFIX):
        raise ValueError("must begin with whsec_")
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except ValueError:  # binascii.Error is one; it is another where the text is not ASCII
        raise ValueError("must be whsec_ and base64") from None
    if not _LEAST_BYTES <= len(key) <= _MOST_BYTES:
        raise ValueError(f"must hold {_LEAST_BYTES} to {_MOST_BYTES} bytes; `tentaculo alerts secret` makes one")
    return key


def _check_secret(value: Secret) -> Secret:
    secret_bytes(value.reveal())
    return value


def _check_webhook(value: Secret) -> Secret:
    try:
        parts = urlsplit(value.reveal())
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address or not value.reveal().isprintable() or " " in value.reveal():
        raise ValueError("must be an http:// or https:// address")
    if parts.username is not None or parts.fragment:
        raise ValueError("must not hold a user name or a fragment")
    return value


def _check_apprise(value: Secret) -> Secret:
    if not _APPRISE_SCHEME.fullmatch(value.reveal()):
        raise ValueError("must be an Apprise address such as tgram://token/chat")
    return value


def _check_channel_name(value: str) -> str:
    if not _CHANNEL_NAME.fullmatch(value):
        raise ValueError("must have only letters, digits, _ and -, at most 64")
    return value


ChannelName = Annotated[str, Check(_check_channel_name, {"pattern": f"^{_CHANNEL_NAME.pattern}$"})]
WebhookSecret = Annotated[AnySecret, Check(_check_secret, {"pattern": f"^{SECRET_PREFIX}"})]
WebhookUrl = Annotated[AnySecret, Check(_check_webhook, {"pattern": "^https?://"})]
AppriseUrl = Annotated[AnySecret, Check(_check_apprise, {"pattern": f"^{_APPRISE_SCHEME.pattern}$"})]


class IncidentSettings(Section, frozen=True):
    """[incidents]: what counts as one incident."""

    settle: Annotated[
        Seconds,
        Doc(
            "How long a failure after the end of an incident continues the same incident. The end is notified after"
            " this time.",
            unit="seconds",
        ),
    ] = 60
    degraded: Annotated[bool, Doc("Whether a degraded service is an incident too.")] = False
    keep: Annotated[
        int,
        at_least(1),
        at_most(36500),
        Doc("How long an incident and its notes are kept after its end.", unit="days"),
    ] = 730


class WebhookSettings(Section, frozen=True):
    """[alerts.webhooks.<name>]: one receiver, as https://www.standardwebhooks.com describes them."""

    url: Annotated[
        WebhookUrl,
        Doc(
            "URL to which messages are posted, http:// or https://.",
            example="https://example.org/hooks/tentaculo",
            variant="https://example.org/archive",
        ),
    ]
    secrets: Annotated[
        Annotated[tuple[WebhookSecret, ...], NOT_EMPTY] | None,
        Doc(
            "Keys that sign the messages, each beginning with whsec_. Two keys are valid while one replaces the other."
            " `tentaculo alerts secret` makes a key. Required unless secrets_file is set.",
            example=["whsec_" + 32 * "A"],
        ),
    ] = None
    secrets_file: Annotated[
        Path | None, Doc("File with one key a line, in place of secrets.", variant="archive.secret")
    ] = None
    timeout: Annotated[Seconds, Doc("How long one attempt may take.", unit="seconds")] = 10


class AlertSettings(Section, frozen=True):
    """[alerts]: where and when incidents are notified."""

    wait: Annotated[
        Pause,
        Doc(
            "How long a new incident waits before it is notified. Incidents that open in this time share one message;"
            " one that ends in this time is not notified.",
            unit="seconds",
        ),
    ] = 15
    remind: Annotated[Pause, Doc("Time between reminders of open incidents.", unit="seconds", zero="no reminders")] = (
        14400
    )
    attempts: Annotated[
        int, at_least(1), at_most(100), Doc("Attempts to deliver one message on a channel.", unit="attempts")
    ] = 10
    page: Annotated[
        Origin | None,
        Doc(
            "Public origin of this gateway, for links in messages.",
            default="the address it listens on",
            example="https://status.example.org",
        ),
    ] = None
    webhooks: Annotated[
        dict[ChannelName, WebhookSettings],
        Doc(
            "Receivers of signed webhooks, one table each.",
            names=("primary", "archive"),
            variant="A receiver whose keys are in a file.",
        ),
    ] = {}
    apprise: Annotated[
        dict[ChannelName, AppriseUrl],
        Doc(
            "Apprise URLs by channel name. They need the package tentaculo-link[alerts].",
            example={"phone": "tgram://a-token/a-chat"},
        ),
    ] = {}
