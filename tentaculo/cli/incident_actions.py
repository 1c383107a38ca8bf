"""What the commands for incidents, notes, maintenance and alerts do. A gateway may run at the same time.

They read and write the gateway's database, so that they need no token and work while the gateway is down. A gateway that
runs notices a change within a few seconds. The test of alerts sends from here, with the channels of the configuration.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

import click
import msgspec
from sqlalchemy import Connection

from tentaculo.cli.output import FaultError, StartError
from tentaculo.config.environment import database_url
from tentaculo.config.loader import load_usable
from tentaculo.config.schema import Config
from tentaculo.gateway.precursor_reports import compute_report
from tentaculo.incidents.alerts import Message, trial_message
from tentaculo.incidents.availability import MaintenanceCalendar
from tentaculo.incidents.channels import Channel, Delivery, channel_kinds
from tentaculo.model.incident import (
    EVERY,
    ChannelTotals,
    DeliveryRecord,
    Incident,
    InvalidInputError,
    MaintenanceWindow,
    Note,
    check_acknowledgement,
    check_note,
    check_window,
)
from tentaculo.model.precursor import PrecursorReport
from tentaculo.model.text import format_duration, format_time, printable, utc_now
from tentaculo.net.tcp import local_url
from tentaculo.store import incidents
from tentaculo.store import incidents as store
from tentaculo.store.database import once
from tentaculo.store.errors import StoreUnavailable
from tentaculo.web.alert_status import channel_shape
from tentaculo.web.incidents import before_shape, incident_shape, window_shape

T = TypeVar("T")

_MAX_ROWS = 500
NO_CHANNELS = "there are no alert channels: neither alerts.webhooks nor alerts.apprise is configured"


def show_incidents(file: Path | None, *, number: int | None, is_open: bool | None, limit: int, as_json: bool) -> None:
    """Print incidents, or one of them with its notes. Raises ConfigError, FaultError and StartError."""
    config = load_usable(file).config
    now = utc_now()
    if number is None:
        found: list[Incident] = _query(config, partial(store.newest, limit=limit, is_open=is_open))
        if as_json:
            click.echo(msgspec.json.encode([incident_shape(one) for one in found]))
        elif found:
            _print(map(partial(_line, now=now), found))
        else:
            click.echo("There are no open incidents." if is_open else "There are no incidents.")
        return
    incident, notes = _existing(number, _query(config, partial(_with_notes, number)))
    report = _precursors(config, now)
    if as_json:
        before = None if report is None else before_shape(incident, report)
        click.echo(msgspec.json.encode({**incident_shape(incident, notes), "before": before}))
    else:
        _print(_details(incident, notes, now))
        _print(_before(incident, report))


def add_note(file: Path | None, number: int, author: str, text: str) -> None:
    """Add a note to an incident. Raises ConfigError, FaultError and StartError."""
    config = load_usable(file).config
    author, text = _validated(lambda: check_note(author, text))

    def add(connection: Connection) -> Incident | None:
        incident = store.find(connection, number)
        if incident is not None:
            store.add_note(connection, number, author, text, utc_now())
        return incident

    _existing(number, _query(config, add))
    click.echo(f"The note was added to incident {number}.")


def acknowledge(file: Path | None, number: int, author: str, note: str) -> None:
    """Acknowledge an open incident. Raises ConfigError, FaultError and StartError."""
    config = load_usable(file).config
    author, note = _validated(lambda: check_acknowledgement(author, note))

    def add(connection: Connection) -> Incident | None:
        incident = store.find(connection, number)
        if incident is not None and incident.is_open:
            store.add_acknowledgement(connection, number, author, note, utc_now())
        return incident

    if not _existing(number, _query(config, add)).is_open:
        raise FaultError(f"incident {number} is over")
    click.echo(f"Incident {number} is acknowledged.")


def add_window(
    file: Path | None,
    services: Sequence[str],
    reason: str,
    *,
    starts_at: datetime | None,
    ends_at: datetime | None,
    minutes: float | None,
    author: str,
) -> None:
    """Plan a maintenance window. Raises ConfigError, FaultError and StartError."""
    config = load_usable(file).config
    now = utc_now()
    window = _validated(
        lambda: check_window(
            services,
            reason,
            names=config.names,
            now=now,
            starts_at=starts_at,
            ends_at=ends_at,
            minutes=minutes,
            author=author,
        )
    )
    click.echo(_plan(_query(config, partial(incidents.add_window, window=window)), now))


def show_windows(file: Path | None, *, as_json: bool) -> None:
    """Print current and planned maintenance windows. Raises ConfigError and StartError."""
    config = load_usable(file).config
    now = utc_now()
    calendar = MaintenanceCalendar(config.maintenance, config.services)
    calendar.take(_query(config, partial(incidents.windows, after=now, limit=_MAX_ROWS)))
    found = calendar.windows(now)
    if as_json:
        click.echo(msgspec.json.encode([window_shape(one, now) for one in found]))
    elif found:
        _print(_plan(window, now) for window in found)
    else:
        click.echo("There are no maintenance windows.")


def end_window(file: Path | None, number: int) -> None:
    """End or cancel a maintenance window. Raises ConfigError, FaultError and StartError."""
    window = _query(load_usable(file).config, partial(incidents.end_window, number=number, now=utc_now()))
    if window is None:
        raise FaultError(f"there is no current or planned maintenance window {number}")
    click.echo(f"Maintenance {number} of {_services(window)} is over.")


def try_alerts(file: Path | None) -> bool:
    """Send one test message on every channel; return whether all were delivered. Raises ConfigError and FaultError."""
    # The other commands need no event loop and no HTTP client.
    import uvloop

    from tentaculo.incidents.notifier import channels

    config = load_usable(file).config
    configured = channels(config)
    if not configured:
        raise FaultError(NO_CHANNELS)
    page = f"{config.alerts.page or local_url(*config.server.addresses[0])}/status"
    message = trial_message(f"msg_{secrets.token_hex(12)}", page, utc_now())
    return all(uvloop.run(_send(configured, message)))


def show_channels(file: Path | None, *, as_json: bool) -> None:
    """Print what each configured channel has done so far. Raises ConfigError, FaultError and StartError."""
    config = load_usable(file).config
    kinds = channel_kinds(config)
    if not kinds:
        raise FaultError(NO_CHANNELS)
    known: dict[str, ChannelTotals] = _query(config, partial(store.read_channels, names=list(kinds)))
    found = [known.get(name, ChannelTotals(name)) for name in kinds]
    if as_json:
        click.echo(msgspec.json.encode([channel_shape(kinds[one.name], one) for one in found]))
    else:
        _print(map(_channel, found))


def _channel(totals: ChannelTotals) -> str:
    last = "never" if totals.last_sent_at is None else format_time(totals.last_sent_at)
    line = f"{totals.name:<20} {totals.sent} sent (last: {last}), {totals.failed} failed"
    if totals.last_error_at is not None:
        line += f"; last error {format_time(totals.last_error_at)}: {printable(totals.last_error)}"
    return line


async def _send(configured: Sequence[Channel], message: Message) -> list[bool]:
    async def send(channel: Channel) -> bool:
        delivery: Delivery = await channel.send(message)
        await channel.close()
        click.echo(f"{'✓' if delivery.is_done else '✗'} {channel.name:<20} {delivery.words}")
        return delivery.is_done

    return list(await asyncio.gather(*map(send, configured)))


def _query(config: Config, work: Callable[[Connection], T]) -> T:
    try:
        return once(database_url(config), work)
    except StoreUnavailable as error:
        raise StartError(error.detail or error.failure.title) from None


def _validated(validate: Callable[[], T]) -> T:
    try:
        return validate()
    except InvalidInputError as error:
        raise FaultError(str(error)) from None


def _with_notes(number: int, connection: Connection) -> tuple[Incident, list[Note]] | None:
    incident = store.find(connection, number)
    return None if incident is None else (incident, store.notes(connection, [number], _MAX_ROWS))


def _existing(number: int, found: T | None) -> T:
    if found is None:
        raise FaultError(f"there is no incident {number}")
    return found


def _print(lines: Iterator[str]) -> None:
    for line in lines:
        click.echo(line)


def _line(incident: Incident, now: datetime) -> str:
    state = "open " if incident.is_open else "ended"
    others = f" +{len(incident.affected)}" if incident.affected else ""
    lasted = format_duration(((incident.ended_at or now) - incident.started_at).total_seconds())
    return f"{incident.id}  {state}  {format_time(incident.started_at)}  {lasted:>12}  {incident.root}{others}: {printable(incident.reason)}"


def _details(incident: Incident, notes: Sequence[Note], now: datetime) -> Iterator[str]:
    yield _line(incident, now)
    if incident.affected:
        yield f"  also affected: {', '.join(incident.affected)}"
    if incident.reopened:
        yield f"  came back {incident.reopened} times"
    if incident.failed_requests is not None:
        yield f"  {incident.failed_requests:,} requests failed or were refused"
    if incident.peak_error_rate is not None:
        yield f"  at worst {incident.peak_error_rate:.0%} of its calls and probes failed"
    if incident.ended_at is not None:
        yield f"  ended {format_time(incident.ended_at)}: {printable(incident.ending)}"
    if (by := incident.acknowledged) is not None:
        said = f": {printable(by.note)}" if by.note else ""
        yield f"  acknowledged {format_time(by.at)} by {printable(by.author)}{said}"
    for delivery in incident.delivery_log:
        yield f"  {_delivery(delivery)}"
    for note in notes:
        author = f" {printable(note.author)}" if note.author else ""
        first, *rest = note.text.splitlines() or [""]
        yield f"  {format_time(note.at)}{author}: {printable(first)}"
        yield from (f"    {printable(line)}" for line in rest)


def _delivery(delivery: DeliveryRecord) -> str:
    times = f"{delivery.messages} messages, the last " if delivery.messages > 1 else ""
    said = f"{format_time(delivery.at)} {times}{delivery.outcome.value} on {printable(delivery.channel) or 'a channel'}"
    error = f": {printable(delivery.error)}" if delivery.error else ""
    return f"{said} ({delivery.kind}){error}"


def _precursors(config: Config, now: datetime) -> PrecursorReport | None:
    """What came before the incidents; None where it cannot be read."""
    try:
        return once(database_url(config), partial(compute_report, config=config, now=now))
    except StoreUnavailable:
        return None


def _before(incident: Incident, report: PrecursorReport | None) -> Iterator[str]:
    """What is claimed to come before the incidents of the root, one sentence a line."""
    found = report.services.get(incident.root) if report is not None else None
    if found is not None:
        yield from (f"  {printable(found.sentence(one))}" for one in found.precursors if one.is_claimed)


def _plan(window: MaintenanceWindow, now: datetime) -> str:
    number = "configured" if window.id is None else str(window.id)
    state = "holds" if window.holds(now) else "is to come"
    span_words = f"{format_time(window.starts_at)} to {format_time(window.ends_at)}"
    return f"{number:<10}  {state:<10}  {span_words}  {_services(window)}: {printable(window.reason)}"


def _services(window: MaintenanceWindow) -> str:
    return ", ".join(window.services) or f"every service ({EVERY})"
