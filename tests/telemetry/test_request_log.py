"""Request ids, records, and counts by service and status class."""

from __future__ import annotations

import asyncio

import pytest

from tentaculo.model.failure import Failure
from tentaculo.model.history import BUCKETS, Histogram, RouteKey, Tally, bucket
from tentaculo.tasks import TaskGroup
from tentaculo.telemetry.request_log import RequestLog, RequestRecord
from tentaculo.telemetry.request_stats import RequestStats


def record(status: int = 200, service: str | None = "madre", seconds: float = 0.5, route: str = "/a") -> RequestRecord:
    key = None if service is None else RouteKey(service, route)
    return RequestRecord("GET", "/", status, seconds, "127.0.0.1", "id", service, route=key)


def test_totals_by_service_and_class_of_status() -> None:
    traffic = RequestStats()
    for done in (
        record(200),
        record(204),
        record(404),
        record(499),
        record(101),
        record(404, None),
        record(200, "mcp"),
        record(200, "mcp", route="/b"),
    ):
        traffic.in_flight += 1
        traffic.end(done)
    assert traffic.in_flight == 0
    assert sorted(traffic.totals()) == [
        ("", "4xx", 1, 0.5),
        ("madre", "1xx", 1, 0.5),
        ("madre", "2xx", 2, 1.0),
        ("madre", "4xx", 2, 1.0),
        ("mcp", "2xx", 2, 1.0),
    ]


def test_in_flight() -> None:
    traffic = RequestStats()
    traffic.in_flight += 1
    traffic.in_flight += 1
    traffic.end(record())
    assert repr(traffic) == "<RequestStats: 1 in flight>"


async def test_idle_at_once() -> None:
    async with asyncio.timeout(1):
        await RequestStats().idle()


async def test_everybody_hears_when_nothing_is_in_flight() -> None:
    traffic, tasks = RequestStats(), TaskGroup("test")
    for _ in range(2):  # and again after it has been idle
        traffic.in_flight += 1
        traffic.in_flight += 1
        waiting = [tasks.start(traffic.idle(), str(number)) for number in range(2)]
        await asyncio.sleep(0)
        traffic.end(record())
        await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
        traffic.end(record())
        async with asyncio.timeout(1):
            await asyncio.gather(*waiting)


A, B = RouteKey("madre", "/a"), RouteKey("madre", "/b")


def met(*done: RequestRecord) -> dict[RouteKey, Tally]:
    traffic = RequestStats()
    for one in done:
        traffic.end(one)
    return traffic.drain()


def of(*seconds: float) -> Histogram:
    histogram = Histogram()
    for one in seconds:
        histogram.add(one)
    return histogram


def test_what_is_drained_is_what_came_since() -> None:
    traffic = RequestStats()
    for seconds in (0.25, 0.001):
        traffic.end(record(seconds=seconds))
    traffic.end(record(404, seconds=2.0))
    traffic.end(record(502))
    traffic.end(record(304, "mcp"))
    for status in (200, 500):
        traffic.end(record(status, route="/b"))
    assert traffic.drain() == {
        A: Tally(3, 1, of(0.25, 0.001, 2.0)),
        B: Tally(1, 1, of(0.5)),
        RouteKey("mcp", "/a"): Tally(1, 0, of(0.5)),
    }
    assert traffic.drain() == {}
    traffic.end(record(500))
    assert traffic.drain() == {A: Tally(0, 1)}
    assert sum(requests for _, _, requests, _ in traffic.totals()) == 8


@pytest.mark.parametrize("seconds", [0.0, -1.0, 1e-9, 1e-6, 40e-6, 0.004, 3599.9, 3600.0, 1e9])
def test_every_latency_has_the_bucket_that_the_histogram_has_for_it(seconds: float) -> None:
    assert met(record(seconds=seconds))[A].latency == Histogram({bucket(seconds): 1})
    assert 0 <= bucket(seconds) < BUCKETS


@pytest.mark.parametrize(
    ("status", "error", "counts"),
    [
        (200, None, "ok"),
        (404, None, "ok"),
        (101, None, ""),
        (500, None, "failed"),
        (501, None, ""),
        (200, Failure.BODY_CUT, "failed"),
        (502, Failure.CONNECT_REFUSED, "failed"),
        (504, Failure.FIRST_BYTE_TIMEOUT, "failed"),
        (503, Failure.CIRCUIT_OPEN, "failed"),
        (503, Failure.OVERLOADED, "failed"),
        (503, Failure.SERVICE_OFF, ""),
        (503, Failure.STOPPING, ""),
        (401, Failure.AUTH_REQUIRED, ""),
        (413, Failure.BODY_TOO_LARGE, ""),
        (499, Failure.CLIENT_LEFT, ""),
        (500, Failure.INTERNAL, ""),
    ],
)
def test_what_counts_as_the_services(status: int, error: Failure | None, counts: str) -> None:
    done = record(status)
    done.error = error and error.error
    tally = met(done).get(A, Tally())
    assert (tally.ok, tally.failed) == (int(counts == "ok"), int(counts == "failed"))


@pytest.mark.parametrize(
    ("head", "seconds", "is_event_stream", "latency"),
    [
        (0.0, 600.0, False, True),  # the whole response came at once, after ten minutes
        (0.2, 10.2, False, True),
        (600.0, 609.0, False, True),  # a long poll is as slow as a slow response
        (0.2, 10.3, False, False),
        (0.2, 3600.0, False, False),
        (0.2, 0.3, True, False),
    ],
)
def test_a_stream_is_a_request_without_a_latency(
    head: float, seconds: float, is_event_stream: bool, latency: bool
) -> None:
    done = record(seconds=seconds)
    done.head_seconds, done.is_event_stream = head, is_event_stream
    traffic = RequestStats()
    for one in (done, record(seconds=0.5)):
        traffic.end(one)
    counted = of(seconds, 0.5) if latency else of(0.5)
    assert traffic.drain() == {A: Tally(2, 0, counted)}
    assert traffic.drain() == {}
    ((_, _, requests, total),) = traffic.totals()
    assert (requests, total) == (2, 0.5 + (seconds if latency else head))


def test_a_stream_that_broke_off_is_a_failure_and_one_that_its_client_left_is_none() -> None:
    for status, error, failed in ((200, Failure.BODY_CUT, 1), (499, Failure.CLIENT_LEFT, 0), (503, None, 1)):
        done = record(status, seconds=99.0)
        done.head_seconds, done.is_event_stream, done.error = 0.1, True, error and error.error
        assert met(done).get(A, Tally()) == Tally(0, failed)


def test_what_the_gateway_answers_itself_is_not_the_services() -> None:
    preflight = record(204)
    preflight.is_own = True
    assert met(preflight, record(404, None), record(500, None)) == {}


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
    requests.stats.in_flight += 1
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
