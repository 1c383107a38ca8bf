"""What is kept of probes to be shown."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import msgspec

from tentaculo.health.service_state import ProbeLog
from tentaculo.model.health import Certificate, Endpoint, Health, ProbeResult, SeenCertificate

NOW = datetime(2026, 3, 14, 15, 9, 26, tzinfo=UTC)
MADRE = Endpoint("madre", "127.0.0.1", 8001, tls=True)
OTHER = msgspec.structs.replace(MADRE, port=8002)
CERTIFICATE = Certificate(("madre.example",), 0, "R11", None, NOW, NOW)


def found(number: int, upstream: Endpoint = MADRE, certificate: Certificate | None = None) -> ProbeResult:
    at = NOW + timedelta(seconds=number)
    return ProbeResult(upstream, Health.UP, f"probe {number}", at, certificate=certificate)


def numbers(log: ProbeLog, service: str = "madre") -> list[int]:
    return [int(probe.reason.split()[1]) for probe in log.probes(service)]


def test_the_last_ten_are_kept_with_the_latest_first() -> None:
    log = ProbeLog(["madre", "switch"])
    for number in range(25):
        log.add(found(number, (MADRE, OTHER)[number % 2]))
    assert numbers(log) == list(range(24, 14, -1))
    assert log.probes("switch") == ()


def test_of_very_many_services_fewer_are_kept() -> None:
    for services, each in ((100, 10), (200, 5), (5000, 2)):
        log = ProbeLog(["madre", *(f"s{n}" for n in range(services - 1))])
        for number in range(25):
            log.add(found(number))
        assert len(numbers(log)) == each


def test_a_certificate_is_kept_while_its_address_fails() -> None:
    log = ProbeLog(["madre"])
    log.add(found(1, certificate=CERTIFICATE))
    log.add(found(2, OTHER, certificate=replace(CERTIFICATE, issuer="another")))
    for number in range(3, 30):
        log.add(found(number))
    assert log.certificates("madre") == (
        SeenCertificate(MADRE, CERTIFICATE, NOW + timedelta(seconds=1)),
        SeenCertificate(OTHER, replace(CERTIFICATE, issuer="another"), NOW + timedelta(seconds=2)),
    )
    log.add(found(31, certificate=replace(CERTIFICATE, issuer="new")))
    assert log.certificates("madre")[0].certificate.issuer == "new"


def test_another_process_continues_with_it_in_any_order() -> None:
    old, new = ProbeLog(["madre"]), ProbeLog(["madre"])
    for number in range(12):
        old.add(found(number, certificate=CERTIFICATE))
    # These two came on their own before the rest.
    new.add(found(11, certificate=replace(CERTIFICATE, issuer="same")))
    new.add(found(12, certificate=replace(CERTIFICATE, issuer="newer")))
    new.restore(*old.content())
    assert numbers(new) == list(range(12, 2, -1)), "none twice"
    assert new.certificates("madre")[0].certificate.issuer == "newer"
    empty = ProbeLog(["madre"])
    empty.restore(*old.content())
    assert empty.content() == old.content()


def test_times_follow_a_clock_that_was_set() -> None:
    log = ProbeLog(["madre"])
    log.add(found(1, certificate=CERTIFICATE))
    log.correct(lambda moment: moment + timedelta(hours=1))
    later = NOW + timedelta(hours=1, seconds=1)
    assert log.probes("madre")[0].checked_at == later
    assert log.certificates("madre") == (SeenCertificate(MADRE, CERTIFICATE, later),)


def test_services_that_only_the_other_process_has_are_left_out() -> None:
    old, new = ProbeLog(["removed", "madre"]), ProbeLog(["madre"])
    removed = msgspec.structs.replace(MADRE, service="removed")
    old.add(found(1, removed, certificate=CERTIFICATE))
    old.add(found(2, certificate=CERTIFICATE))
    new.restore(*old.content())
    assert numbers(new) == [2]
    assert new.content()[1] == [SeenCertificate(MADRE, CERTIFICATE, NOW + timedelta(seconds=2))]
