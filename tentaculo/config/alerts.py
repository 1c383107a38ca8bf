"""The form of `[incidents]` and `[alerts]`: what counts as one incident, and who is told of it."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from tentaculo.config.constraints import NOT_EMPTY, Check, at_least, at_most
from tentaculo.config.section import Section
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
        raise ValueError("a channel's name has letters, digits, _ and - only, at most 64")
    return value


ChannelName = Annotated[str, Check(_check_channel_name)]
WebhookSecret = Annotated[AnySecret, Check(_check_secret)]
WebhookUrl = Annotated[AnySecret, Check(_check_webhook)]
AppriseUrl = Annotated[AnySecret, Check(_check_apprise)]


class IncidentSettings(Section, frozen=True):
    """[incidents]: what counts as one."""

    settle: Annotated[
        Seconds,
        "Seconds after its end in which a new failure of the same service continues the same incident, and"
        " after which its end is told. Default 60.",
    ] = 60
    degraded: Annotated[bool, "Whether a service that is only degraded is an incident too. Default false."] = False
    keep: Annotated[
        int,
        at_least(1),
        at_most(36500),
        "Days that an incident is kept after its end, with its notes. Default 730.",
    ] = 730


class WebhookSettings(Section, frozen=True):
    """[alerts.webhooks.<name>]: one receiver, as https://www.standardwebhooks.com describes them."""

    url: Annotated[WebhookUrl, "Where messages are posted, http:// or https://. Required."]
    secrets: Annotated[
        Annotated[tuple[WebhookSecret, ...], NOT_EMPTY] | None,
        'Keys that sign, "whsec_…"; several while one replaces another. `tentaculo alerts secret` makes one.'
        " Required, or secrets_file.",
    ] = None
    secrets_file: Annotated[Path | None, "File with one such key a line, in place of secrets. Default none."] = None
    timeout: Annotated[Seconds, "Seconds that one attempt may take. Default 10."] = 10


class AlertSettings(Section, frozen=True):
    """[alerts]: who is told of incidents, and when."""

    wait: Annotated[
        Pause,
        "Seconds that a new incident waits before it is told: one message tells of what falls together, and"
        " what is over by then is not told. Default 15.",
    ] = 15
    remind: Annotated[
        Pause, "Seconds between reminders of incidents that are still open; 0 for none. Default 14400."
    ] = 14400
    attempts: Annotated[
        int,
        at_least(1),
        at_most(100),
        "How often a message is tried on a channel before it is given up. Default 10.",
    ] = 10
    page: Annotated[
        Origin | None, "Where people reach this gateway, for links: https://status.example.org. Default: as it listens."
    ] = None
    webhooks: Annotated[dict[ChannelName, WebhookSettings], "Receivers of signed webhooks, by name. Default none."] = {}
    apprise: Annotated[
        dict[ChannelName, AppriseUrl],
        "Apprise addresses by name, for a hundred other channels; needs tentaculo-link[alerts]. Default none.",
    ] = {}
