"""What the page of a service says of its last probes and of its certificates. Pure.

What a service sent, its path and the names in its certificate are shown to those who are signed in only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, tzinfo
from typing import NamedTuple

from tentaculo.model.certificate import Certificate
from tentaculo.model.health import Endpoint, Health, ProbeResult, SeenCertificate, ServiceView
from tentaculo.model.text import format_duration, join_names, printable
from tentaculo.web import wording
from tentaculo.web.viewer import Viewer
from tentaculo.web.wording import State

_DAY = 86400.0


class ProbeRow(NamedTuple):
    """One probe."""

    state: State
    at: datetime
    clock: str
    """The time of day, in the zone of the page."""
    text: str
    address: str
    """Empty where the service has one address."""
    snippet: str
    """What it sent; empty where that is private, or the same as in the row above."""


class CertificateRow(NamedTuple):
    """One certificate, of one or more addresses."""

    key: str
    """Names its symbol."""
    tone: str
    text: str
    address: str
    detail: str
    seen_at: datetime
    seen: str


def addresses(view: ServiceView, viewer: Viewer) -> dict[Endpoint, str]:
    """How each address of a service is called: by its number where addresses are private."""
    return {
        one.upstream: one.upstream.authority if viewer.is_signed_in else f"Address {place}"
        for place, one in enumerate(view.upstreams, 1)
    }


def probe_rows(view: ServiceView, probes: Sequence[ProbeResult], viewer: Viewer, zone: tzinfo) -> list[ProbeRow]:
    """The last probes, the latest first. Where this process has sent none, the one that another machine stored."""
    names = addresses(view, viewer)
    rows: list[ProbeRow] = []
    last = ""
    for probe in probes or _stored(view):
        snippet = printable(probe.snippet or "", 200) if viewer.is_signed_in else ""
        rows.append(
            ProbeRow(
                wording.state_of(probe.health, probe.kind),
                probe.checked_at,
                f"{probe.checked_at.astimezone(zone):%H:%M:%S}",
                _private_text(probe) if viewer.is_signed_in else public_text(probe),
                names.get(probe.upstream, "") if len(names) > 1 else "",
                "" if snippet == last else snippet,
            )
        )
        last = snippet
    return rows


def public_text(probe: ProbeResult) -> str:
    """What one probe found, without anything that the service wrote."""
    took = f" in {probe.latency_ms} ms" if probe.latency_ms is not None else ""
    if probe.code is not None:
        return f"answered {probe.code}{took}"
    if probe.health is Health.UNKNOWN:
        return "not sent"
    return f"succeeded{took}" if probe.health.is_healthy else "failed without a response"


def _private_text(probe: ProbeResult) -> str:
    path = printable(probe.endpoint or "", 80)
    text = printable(probe.reason, 300)
    return f"{path} {text}" if path and path not in text else text


def _stored(view: ServiceView) -> Sequence[ProbeResult]:
    if view.checked_at is None or not view.upstreams:
        return ()
    return (
        ProbeResult(
            view.upstreams[0].upstream,
            view.health,
            view.reason,
            view.checked_at,
            view.endpoint,
            view.code,
            view.latency_ms,
            view.snippet,
            view.kind,
        ),
    )


def certificate_rows(
    view: ServiceView, seen: Sequence[SeenCertificate], least_days: int, viewer: Viewer, now: datetime
) -> list[CertificateRow]:
    """The certificates that the addresses of a service have shown, the first to end first.

    One that is valid for less than `least_days` days is marked, and degrades its service.
    """
    groups: dict[Certificate, list[SeenCertificate]] = {}
    for one in seen:
        groups.setdefault(one.certificate, []).append(one)
    names = addresses(view, viewer)
    rows = []
    for certificate, group in sorted(groups.items(), key=lambda item: item[0].chain_ends):
        left = (certificate.chain_ends - now).total_seconds()
        is_short = left < least_days * _DAY
        key, tone = ("down", "down") if left <= 0 else ("degraded", "slow") if is_short else ("up", "up")
        seen_at = max(one.seen_at for one in group)
        rows.append(
            CertificateRow(
                key,
                tone,
                certificate_text(certificate, left, is_short=is_short),
                _places(group, names),
                _detail(certificate) if viewer.is_signed_in else "",
                seen_at,
                f"seen {wording.ago(seen_at, now)}",
            )
        )
    return rows


def certificate_text(certificate: Certificate, left: float, *, is_short: bool) -> str:
    """Until when a certificate is valid, `left` seconds from now; `is_short` says that this is not long."""
    end = f"{certificate.chain_ends:%-d %b %Y}"
    whose = "The certificate of its issuer" if certificate.is_issuer_first else "It"
    if left <= 0:
        return f"{whose} expired on {end}"
    return f"{whose} is valid until {end}, for {format_duration(left, units=1)}{' only' if is_short else ''}"


def _places(group: Sequence[SeenCertificate], names: Mapping[Endpoint, str]) -> str:
    return join_names([names[one.endpoint] for one in group if one.endpoint in names], 3) if len(names) > 1 else ""


def _detail(certificate: Certificate) -> str:
    more = f" and {certificate.more_names} more" if certificate.more_names else ""
    parts = [f"for {join_names(certificate.names)}{more}" if certificate.names else ""]
    parts.append(f"issued by {certificate.issuer}" if certificate.issuer else "")
    return ", ".join(filter(None, parts))
