"""The cases, what is measured in each, and the targets. No measuring here: the tables need it too."""

from __future__ import annotations

from dataclasses import dataclass

MB = 1e6


@dataclass(frozen=True, slots=True)
class Metric:
    """One number of a case."""

    key: str
    label: str
    unit: str
    digits: int = 0
    more_is_better: bool = True
    compared: bool = False
    """Whether the table shows its ratio to the reference's."""


@dataclass(frozen=True, slots=True)
class Target:
    """What ours is to reach: `metric` at least, or at most, `bound`, alone or as a ratio to a peer's."""

    metric: str
    bound: float
    at_least: bool = True
    peers: tuple[str, ...] = ()
    """Compared with the best of these; with none, the value itself is judged."""


@dataclass(frozen=True, slots=True)
class Case:
    """One question."""

    name: str
    title: str
    how: str
    metrics: tuple[Metric, ...]
    targets: tuple[Target, ...] = ()


_CPU = Metric("cpu_us", "proxy CPU each", "µs", 1, more_is_better=False)
_BUSY = Metric("busy", "proxy busy", "%")
_NODE = ("http-proxy", "fastify")

CASES = (
    Case(
        "get",
        "GET 1 KB, 32 connections",
        "wrk, one thread, as fast as answers come",
        (Metric("rps", "requests/s", "", compared=True), _CPU, _BUSY),
        (
            Target("rps", 0.5, peers=("nginx",)),
            Target("rps", 0.95, peers=("envoy",)),
            Target("rps", 1.4, peers=("traefik",)),
            Target("rps", 1.6, peers=("caddy",)),
            Target("rps", 1.6, peers=_NODE),
            Target("rps", 2.7, peers=("aiohttp",)),
            Target("rps", 25, peers=("fastapi",)),
        ),
    ),
    Case(
        "varied",
        "GET 1 KB, another target each time, 32 connections",
        "wrk, one thread; the query differs from request to request, so no proxy can reuse the last result",
        (Metric("rps", "requests/s", "", compared=True), _CPU, _BUSY),
    ),
    Case(
        "post",
        "POST 4 KB of JSON, 1 KB back, 32 connections",
        "wrk, one thread; the upstream reads the body before it answers",
        (Metric("rps", "requests/s", "", compared=True), _CPU, _BUSY),
        (Target("rps", 0.45, peers=("nginx",)),),
    ),
    Case(
        "latency",
        "Added latency at 1,000 requests/s",
        "open loop: latency counts from the moment a request is due; what the upstream alone takes, measured just "
        "before, is subtracted",
        (
            Metric("added_p50", "added p50", "ms", 3, more_is_better=False, compared=True),
            Metric("added_p99", "added p99", "ms", 3, more_is_better=False, compared=True),
            Metric("p50", "p50", "ms", 3, more_is_better=False),
            Metric("p99", "p99", "ms", 3, more_is_better=False),
        ),
        (
            Target("added_p50", 3, at_least=False, peers=("nginx",)),
            Target("added_p99", 4, at_least=False, peers=("nginx",)),
        ),
    ),
    Case(
        "download",
        "100 MB response",
        "one connection, one after the other",
        (
            Metric("megabytes", "MB/s", "", compared=True),
            Metric("growth", "memory grows by", "MB", 1, more_is_better=False),
            _BUSY,
        ),
        (Target("megabytes", 0.9, peers=("nginx",)), Target("growth", 16, at_least=False)),
    ),
    Case(
        "upload",
        "100 MB upload",
        "one connection, one after the other",
        (
            Metric("megabytes", "MB/s", "", compared=True),
            Metric("growth", "memory grows by", "MB", 1, more_is_better=False),
            _BUSY,
        ),
        (Target("megabytes", 0.9, peers=("nginx",)), Target("growth", 16, at_least=False)),
    ),
    Case(
        "websocket",
        "WebSocket echo, 64 B, 32 sockets",
        "each socket sends its next message when the last has come back",
        (Metric("messages", "messages/s", "", compared=True), _CPU, _BUSY),
        (Target("messages", 0.9, peers=("nginx",)),),
    ),
    Case(
        "sse",
        "Event streams: 1,000 of them, 10 events/s each",
        "delay from the upstream's sending to the client's reading",
        (
            Metric("p50", "p50", "ms", 2, more_is_better=False),
            Metric("p99", "p99", "ms", 2, more_is_better=False, compared=True),
            Metric("max", "longest", "ms", 1, more_is_better=False),
            Metric("arrived", "arrived", "of 1", 3),
            _BUSY,
        ),
        (Target("p99", 100, at_least=False), Target("arrived", 0.99)),
    ),
    Case(
        "connections",
        "Connections, 1 to 4,096",
        "wrk, GET 1 KB; how much of the best throughput is left at 4,096",
        (
            Metric("left", "left at 4,096", "of 1", 2, compared=True),
            *(Metric(f"rps_{count}", f"{count:,}", "requests/s") for count in (1, 8, 64, 512, 4096)),
        ),
        (Target("left", 0.7),),
    ),
    Case(
        "routes",
        "Routes, 10 to 10,000",
        "wrk, GET 1 KB by the last route, 32 connections; few and many in turn",
        (
            Metric("slower", "slower with 10,000", "%", 1, more_is_better=False),
            Metric("rps_few", "10 routes", "requests/s"),
            Metric("rps_many", "10,000 routes", "requests/s"),
        ),
        (Target("slower", 5, at_least=False),),
    ),
    Case(
        "idle",
        "Idle memory",
        "resident, all processes of the proxy, two seconds after its first answer",
        (Metric("resident", "resident", "MB", 1, more_is_better=False, compared=True),),
        (Target("resident", 70, at_least=False),),
    ),
    Case(
        "sockets",
        "9,000 idle proxied WebSockets",
        "resident, all processes of the proxy",
        (
            Metric("resident", "resident", "MB", 1, more_is_better=False, compared=True),
            Metric("each", "each socket", "KB", 1, more_is_better=False),
        ),
        (Target("resident", 400, at_least=False),),
    ),
    Case(
        "ingest",
        "Durable events, one in each request, 64 connections",
        "wrk, one thread; 201 follows the commit, which waits for the disk. The bare group commit is SQLite alone, with "
        "64 rows in each transaction",
        (Metric("rps", "events/s", ""), _CPU, _BUSY, Metric("p99", "p99 at a third of the rate", "ms", 1, False)),
        (
            Target("rps", 0.5, peers=("sqlite",)),
            Target("rps", 10_000),
            Target("p99", 10, at_least=False),
        ),
    ),
    Case(
        "ingest100",
        "Durable events, 100 in each request, 8 connections",
        "wrk, one thread; the bare group commit has 800 rows in each transaction, as many as wait for the gateway's",
        (Metric("rps", "events/s", ""), _CPU, _BUSY),
        (Target("rps", 50_000),),
    ),
    Case(
        "fanout",
        "Events to 1,000 listeners, of which 50 never read",
        "half of the gateway's listeners are /events/stream and half /ws; first 160 events/s, then the next 50 events when "
        "the last have arrived. The gateway stores each event durably, and the brokers store nothing",
        (
            Metric("most", "deliveries/s, as fast as they arrive", ""),
            Metric("paced", "deliveries/s at 160 events/s", ""),
            Metric("p99", "p99 at 160 events/s", "ms", 1, more_is_better=False),
            Metric("growth", "memory grows by", "MB", 1, more_is_better=False),
            Metric("cut_off", "readers cut off", ""),
        ),
        (
            Target("most", 150_000),
            Target("paced", 150_000),
            Target("p99", 100, at_least=False),
            Target("growth", 80, at_least=False),
            Target("cut_off", 0, at_least=False),
        ),
    ),
    Case(
        "search",
        "A text that no event has, in a million events",
        "GET /events?text=…, following `next` to the end, again and again; beside it, and before it alone, 100 durable "
        "events/s, one in each request",
        (
            Metric("whole", "to the end", "ms", more_is_better=False),
            Metric("responses", "responses", "", 1, more_is_better=False),
            Metric("alone", "p99 of an ingest alone", "ms", 1, more_is_better=False),
            Metric("beside", "p99 of an ingest beside it", "ms", 1, more_is_better=False),
        ),
        (Target("whole", 300, at_least=False), Target("beside", 10, at_least=False)),
    ),
    Case(
        "start",
        "Start to first proxied answer",
        "the process's own processor time; with helpers, that of processes it waited for too",
        (
            Metric("own", "own CPU", "s", 2, more_is_better=False),
            Metric("whole", "with helpers", "s", 2, more_is_better=False),
            Metric("wall", "by the clock", "s", 2, more_is_better=False),
        ),
        (Target("own", 0.6, at_least=False),),
    ),
)
BY_NAME = {case.name: case for case in CASES}
QUICK = ("get", "post", "latency", "idle", "start")
"""The cases of a quick look."""
INGESTS = frozenset({"ingest", "ingest100"})
FAN_OUT, SEARCH = "fanout", "search"
EVENTS = INGESTS | {FAN_OUT, SEARCH}
"""The cases of events, which no proxy takes."""
LISTENERS, STALLED = 1000, 50
EVENT_RATE = 160
"""Events a second that make 150,000 deliveries to all listeners that read."""
STORED = 1_000_000
SEARCHED_BESIDE = 100
"""Events a second that are ingested beside a search."""
CONNECTIONS = (1, 8, 64, 512, 4096)
STREAMS = 1000
SOCKETS = 32
IDLE_SOCKETS = 9000
RATE = 1000
FEW_ROUTES, MANY_ROUTES = 10, 10_000
