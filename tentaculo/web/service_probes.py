"""What the page of a service says of its last probes and of its certificates. Pure.

What a service sent, its path and the names in its certificate are shown to those who are signed in only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, tzinfo
from typing import NamedTuple

from tentaculo.model.health import Certificate, Endpoint, Health, ProbeResult, SeenCertificate, ServiceView
from tentaculo.model.reason import Reason
from tentaculo.model.text import join_names, printable
from tentaculo.web import wording
from tentaculo.web.languages import Language
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
        one.upstream: one.upstream.authority if viewer.is_signed_in else viewer.texts("service.address", number=place)
        for place, one in enumerate(view.upstreams, 1)
    }


def probe_rows(view: ServiceView, probes: Sequence[ProbeResult], viewer: Viewer, zone: tzinfo) -> list[ProbeRow]:
    """The last probes, the latest first. Where this process has sent none, the one that another machine stored."""
    names, t = addresses(view, viewer), viewer.texts
    rows: list[ProbeRow] = []
    last = ""
    for probe in probes or _stored(view):
        snippet = printable(probe.snippet or "", 200) if viewer.is_signed_in else ""
        rows.append(
            ProbeRow(
                wording.state_of(probe.health, probe.kind, t=t),
                probe.checked_at,
                f"{probe.checked_at.astimezone(zone):%H:%M:%S}",
                _private_text(probe, t) if viewer.is_signed_in else public_text(probe, t),
                names.get(probe.upstream, "") if len(names) > 1 else "",
                "" if snippet == last else snippet,
            )
        )
        last = snippet
    return rows


def public_text(probe: ProbeResult, t: Language) -> str:
    """What one probe found, without anything that the service wrote."""
    took = probe.latency_ms
    if probe.code is not None:
        status = str(probe.code)
        if took is None:
            return t("service.probe_answered", status=status)
        return t("service.probe_answered_in", status=status, milliseconds=took)
    if probe.health is Health.UNKNOWN:
        return t("service.probe_not_sent")
    if not probe.health.is_healthy:
        return t("service.probe_failed")
    return t("service.probe_succeeded") if took is None else t("service.probe_succeeded_in", milliseconds=took)


def _private_text(probe: ProbeResult, t: Language) -> str:
    path = wording.foreign(probe.endpoint or "", 80)
    text = wording.said(probe.reason, probe.reason if isinstance(probe.reason, Reason) else None, t, 300)
    return f"{path} {text}" if path and wording.plain(path) not in text else text


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
    names, t = addresses(view, viewer), viewer.texts
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
                certificate_text(certificate, left, t, is_short=is_short),
                _places(group, names, t),
                _detail(certificate, t) if viewer.is_signed_in else "",
                seen_at,
                t("service.seen", ago=t.ago(seen_at, now)),
            )
        )
    return rows


def certificate_text(certificate: Certificate, left: float, t: Language, *, is_short: bool) -> str:
    """Until when a certificate is valid, `left` seconds from now; `is_short` says that this is not long."""
    end, duration = t.short_date(certificate.chain_ends, year=True), t.duration(left)
    if left <= 0:
        return t("service.issuer_expired" if certificate.is_issuer_first else "service.certificate_expired", date=end)
    if certificate.is_issuer_first:
        return t("service.issuer_short" if is_short else "service.issuer_valid", date=end, duration=duration)
    return t("service.certificate_short" if is_short else "service.certificate_valid", date=end, duration=duration)


def _places(group: Sequence[SeenCertificate], names: Mapping[Endpoint, str], t: Language) -> str:
    if len(names) < 2:
        return ""
    return t.joined([names[one.endpoint] for one in group if one.endpoint in names], 3)


def _detail(certificate: Certificate, t: Language) -> str:
    names = join_names([wording.foreign(name, 100) for name in certificate.names])
    if certificate.more_names:
        names = t("common.and_more", names=names, count=certificate.more_names)
    parts = [t("service.certificate_for", names=names) if names else ""]
    parts.append(
        t("service.certificate_issued", issuer=wording.foreign(certificate.issuer, 200)) if certificate.issuer else ""
    )
    return ", ".join(filter(None, parts))
