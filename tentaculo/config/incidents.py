"""The tables [incidents], [alerts] and [[maintenance]]."""

from __future__ import annotations

import base64
import re
from datetime import UTC, datetime, time, tzinfo
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from tentaculo.config.section import NOT_EMPTY, Check, Doc, Parse, Section, at_least, at_most, at_most_long
from tentaculo.config.types import AnySecret, Line, Origin, Pause, Seconds, Secret, TimeZoneName, time_zone

SECRET_PREFIX = "whsec_"  # noqa: S105 - how a secret begins
_LEAST_BYTES, _MOST_BYTES = 24, 64
_CHANNEL_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,62}[A-Za-z0-9])?")
_APPRISE_SCHEME = re.compile(r"[A-Za-z0-9]{1,32}://\S+")


def secret_bytes(secret: str) -> bytes:
    """The key in a `whsec_…` secret (Standard Webhooks, "Signature scheme"). Raises ValueError."""
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
    """[incidents]: when an incident opens and ends."""

    settle: Annotated[
        Seconds,
        Doc(
            "How long a failure after the end of an incident continues the same incident. The end is notified after"
            " this time.",
            unit="seconds",
        ),
    ] = 60
    degraded: Annotated[
        bool,
        Doc(
            "Whether a degraded service is an incident too. One of which a part of the probes fails always is, one that"
            " is only slow is with slow_alerts."
        ),
    ] = False
    slow_alerts: Annotated[bool, Doc("Whether a service that is only slow is an incident too, with its alerts.")] = (
        False
    )
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
    """[alerts]: where and when alerts about incidents are sent."""

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
        int,
        at_least(1),
        at_most(100),
        Doc(
            "Attempts to deliver one message on a channel. After them a newer message takes its place.",
            unit="attempts",
        ),
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


DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
"""In the order of `date.weekday()`."""
_TIMES = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")


def _check_times(value: str) -> str:
    if (found := _TIMES.fullmatch(value)) is None:
        raise ValueError('must be two times of day such as "02:00-04:30"')
    if found[1] + found[2] == found[3] + found[4]:
        raise ValueError("starts and ends at the same time")
    return value


def _as_moment(value: Any) -> datetime:
    try:
        # A date alone would mean its midnight.
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(value if "T" in value else "")
    except (TypeError, ValueError):
        raise ValueError("must be a time such as 2026-12-01T02:00:00Z") from None
    if moment.tzinfo is not None and not _is_in_utc(moment):
        raise ValueError("must be a time that UTC has too")
    return moment


def _is_in_utc(moment: datetime) -> bool:
    """Whether UTC can express a time: the last hours of the year 9999 in America are none of its years."""
    try:
        moment.astimezone(UTC)
    except OverflowError:
        return False
    return True


Moment = Annotated[datetime, Parse(_as_moment, {"type": "string"})]
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
Reason = Annotated[Line, at_most_long(200)]


class MaintenanceSettings(Section, frozen=True):
    """[[maintenance]]: one plan. Either `starts` and `ends`, or `at`."""

    services: Annotated[
        tuple[str, ...],
        NOT_EMPTY,
        Doc('Names of the services; ["*"] is every service.', example=["example"], variant=["*"]),
    ]
    reason: Annotated[Reason, Doc("Reason, as people see it.", example="a new disk")] = "planned maintenance"
    starts: Annotated[
        Moment | None,
        Doc(
            "Start of a window that happens once. Without an offset it is in zone.",
            example=datetime(2026, 12, 1, 2, tzinfo=UTC),
        ),
    ] = None
    ends: Annotated[
        Moment | None, Doc("End of a window that happens once.", example=datetime(2026, 12, 1, 4, 30, tzinfo=UTC))
    ] = None
    at: Annotated[
        Annotated[str, Check(_check_times, {"pattern": f"^({_TIMES.pattern})$"})] | None,
        Doc(
            "Start and end of a window that repeats, as times of day. An end before the start is on the next day.",
            variant="02:00-04:30",
        ),
    ] = None
    days: Annotated[
        tuple[Day, ...],
        NOT_EMPTY,
        Doc("Days of the week on which a window that repeats begins.", default="every day", variant=["sat", "sun"]),
    ] = DAYS
    zone: Annotated[TimeZoneName, Doc("Time zone of starts, ends, at and days.", variant="Europe/Madrid")] = "UTC"

    def check(self) -> None:
        """Raises ValueError if it is neither of the two kinds, or if it ends before it starts."""
        if (self.at is None) == (self.starts is None and self.ends is None):
            raise ValueError("needs either starts and ends, or at")
        once = self.once
        if self.at is None and once is None:
            raise ValueError("needs both starts and ends")
        if once is not None and not all(map(_is_in_utc, once)):
            raise ValueError("starts or ends at a time that UTC does not have")
        if once is not None and once[0] >= once[1]:
            raise ValueError("ends before it starts")

    @property
    def time_zone(self) -> tzinfo:
        """Its zone."""
        return time_zone(self.zone)

    @property
    def once(self) -> tuple[datetime, datetime] | None:
        """Its start and end, aware of their zone; None for a plan that repeats."""
        if self.starts is None or self.ends is None:
            return None
        zone = self.time_zone
        start, end = (one if one.tzinfo else one.replace(tzinfo=zone) for one in (self.starts, self.ends))
        return start, end

    @property
    def times(self) -> tuple[time, time] | None:
        """Start and end by the wall clock of its zone; None for a plan that does not repeat."""
        if self.at is None:
            return None
        start, end = map(time.fromisoformat, self.at.split("-"))
        return start, end
