"""Request ids, and what is done once at the end of each request."""

from __future__ import annotations

import pytest

from tentaculo.telemetry.request_log import RequestLog
from tentaculo.telemetry.traffic import RequestRecord


def id_for(requests: RequestLog, forwarded: dict[bytes, bytes] | None) -> str:
    return requests.begin("GET", "/", "127.0.0.1", forwarded).request_id


class TestRequestId:
    def test_each_is_new(self) -> None:
        requests = RequestLog(None)
        assert len({id_for(requests, None) for _ in range(100)} | {id_for(RequestLog(None), None)}) == 101

    def test_a_trusted_peers_is_taken(self) -> None:
        assert id_for(RequestLog(None), {b"x-request-id": b"A-1_2.3:4+5/6="}) == "A-1_2.3:4+5/6="

    @pytest.mark.parametrize(
        "given_id", [b"", b"a b", b"a,b", b"a\tb", b"a\xff", b"\x1b[0m", b'a"b', b"a" * 129, b"a, a"]
    )
    def test_but_only_a_plain_one(self, given_id: bytes) -> None:
        requests = RequestLog(None)
        made = id_for(requests, {b"x-request-id": given_id})
        assert made.encode() != given_id
        assert made != id_for(requests, {b"x-request-id": given_id})


def test_a_finished_request_is_timed_counted_and_written() -> None:
    written: list[RequestRecord] = []
    requests = RequestLog(written.append)
    record = requests.begin("GET", "/x", "127.0.0.1", None)
    record.status = 200
    requests.stats.begin()
    requests.finish(record)
    assert written == [record]
    assert record.seconds > 0
    assert requests.stats.in_flight == 0
    assert [total[:3] for total in requests.stats.totals()] == [("", "2xx", 1)]


def test_a_native_request_is_written_and_not_counted() -> None:
    written: list[RequestRecord] = []
    requests = RequestLog(written.append)
    requests.finish(requests.begin("GET", "/livez", "127.0.0.1", None), is_counted=False)
    assert len(written) == 1
    assert list(requests.stats.totals()) == []


def test_bytes_that_never_became_a_request_are_written() -> None:
    written: list[RequestRecord] = []
    request_id = RequestLog(written.append).refused("10.0.0.1", 400, "bad_request", "why")
    (record,) = written
    assert (record.request_id, record.peer, record.status) == (request_id, "10.0.0.1", 400)
    assert (record.method, record.target, record.error, record.detail) == ("-", "-", "bad_request", "why")
