"""Reports to the service manager, over a real datagram socket."""

from __future__ import annotations

import secrets
import time
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tentaculo.net.systemd_notify import MOST_STATUS, ServiceManager
from tests.support.service_manager import service_manager


@pytest.mark.parametrize("name", [None, f"tentaculo-{secrets.token_hex(4)}"], ids=["path", "abstract"])
def test_each_report_is_one_datagram(name: str | None) -> None:
    with service_manager(name) as manager:
        ours = ServiceManager(manager.address)
        ours.ready("serves 2 services")
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        ours.reloading()
        after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        ours.ready()
        ours.stopping()
        first, second, *others = manager.reports
        assert first == {"READY": "1", "STATUS": "serves 2 services"}
        assert list(second) == ["RELOADING", "MONOTONIC_USEC"]
        assert before <= int(second["MONOTONIC_USEC"]) <= after
        assert others == [{"READY": "1"}, {"STOPPING": "1"}]


def test_a_status_is_one_line_of_bounded_length() -> None:
    with service_manager() as manager:
        ServiceManager(manager.address).ready("rejected\nMAINPID=1\0" + 10_000 * "é")
        (report,) = manager.reports
        assert set(report) == {"READY", "STATUS"}
        assert report["STATUS"].startswith("rejected MAINPID=1 é")
        assert len(report["STATUS"]) == MOST_STATUS


@pytest.mark.parametrize("address", [None, "", "vsock:2:1234", "relative"])
def test_without_an_address_of_a_socket_nothing_is_sent(address: str | None) -> None:
    with capture_logs() as logs:
        ServiceManager(address).ready()
    assert logs == []


def test_a_manager_that_is_gone_is_logged_and_fails_nothing(tmp_path: Path) -> None:
    with capture_logs() as logs:
        ServiceManager(str(tmp_path / "gone")).stopping()
    assert [(line["event"], line["report"]) for line in logs] == [("service manager not notified", "STOPPING=1")]
