"""How each case is measured: one proxy, one round, a number for each metric of the catalogue."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

from bench import catalogue, machine, traffic
from bench.bed import Bed, Proxy
from bench.peers import ours
from bench.peers.peer import Peer
from bench.peers.registry import SQLITE
from bench.process import BenchError

Values = dict[str, float]
Measure = Callable[[Bed, Peer], Values]
_SETTLE = 2.0
_OPENED_PER_SECOND = 300


@contextmanager
def _cpu(proxy: Proxy, values: Values) -> Iterator[None]:
    """Note which share of its core the proxy used, for what is in `values` when this ends.

    A load that says how long it sent (`took`) started as a process of Python before, for tenths of a second in which the
    proxy had nothing to do.
    """
    before, started = proxy.cpu_seconds(), time.perf_counter()
    yield
    used = proxy.cpu_seconds() - before
    took = values.pop("took", time.perf_counter() - started)
    if proxy.process is None:
        return
    values["busy"] = 100 * used / took
    if rate := values.get("rps") or values.get("messages"):
        values["cpu_us"] = 1e6 * used / (rate * took)


def _rate(bed: Bed, proxy: Proxy, path: str, *, connections: int = 32, seconds: float | None = None) -> float:
    rate = bed.wrk(proxy, path, connections=connections, seconds=seconds)
    if rate.errors:
        raise BenchError(f"{rate.errors} requests of {connections} connections failed")
    return rate.per_second


def _requests(path: str) -> Measure:
    def measure(bed: Bed, peer: Peer) -> Values:
        proxy = bed.proxy(peer)
        values: Values = {}
        with _cpu(proxy, values):
            values["rps"] = _rate(bed, proxy, path)
        return values

    return measure


def _latency(bed: Bed, peer: Peer) -> Values:
    proxy = bed.proxy(peer)
    arguments = (catalogue.RATE, bed.options.seconds)
    alone = bed.load("latency", bed.web, *arguments)
    found = bed.load("latency", proxy.port(traffic.SMALL), *arguments)
    return {**found, "added_p50": found["p50"] - alone["p50"], "added_p99": found["p99"] - alone["p99"]}


def _transfer(direction: str, path: str) -> Measure:
    def measure(bed: Bed, peer: Peer) -> Values:
        proxy = bed.proxy(peer)
        before = 0
        if proxy.process is not None:
            before = machine.resident(proxy.process.pid)
            machine.forget_peak(proxy.process.pid)
        values: Values = {}
        with _cpu(proxy, values):
            values |= bed.load("transfer", proxy.port(path), direction, bed.options.seconds)
        if proxy.process is not None:
            values["growth"] = (machine.peak(proxy.process.pid) - before) / catalogue.MB
        return values

    return measure


def _websocket(bed: Bed, peer: Peer) -> Values:
    proxy = bed.proxy(peer)
    values: Values = {}
    with _cpu(proxy, values):
        values |= bed.load("websocket", proxy.port(traffic.ECHO), "echo", catalogue.SOCKETS, bed.options.seconds)
    return values


def _sse(bed: Bed, peer: Peer) -> Values:
    proxy = bed.proxy(peer)
    values: Values = {}
    with _cpu(proxy, values):
        values |= bed.load("sse", proxy.port(traffic.TICKS), catalogue.STREAMS, bed.options.seconds)
    return values


def _connections(bed: Bed, peer: Peer) -> Values:
    proxy = bed.proxy(peer)
    rates = {}
    for count in catalogue.CONNECTIONS:
        # wrk opens its connections within the time it measures.
        seconds = max(bed.options.seconds, count / _OPENED_PER_SECOND)
        rates[count] = _rate(bed, proxy, traffic.SMALL, connections=count, seconds=seconds)
    return {
        "left": rates[catalogue.CONNECTIONS[-1]] / max(rates.values()),
        **{f"rps_{count}": rate for count, rate in rates.items()},
    }


def _routes(bed: Bed, peer: Peer) -> Values:
    """A B B A, so that a machine that gets slower or faster meanwhile does not decide."""
    seconds = max(1.0, bed.options.seconds / 2)
    with _fresh(bed, peer, catalogue.FEW_ROUTES) as few, _fresh(bed, peer, catalogue.MANY_ROUTES) as many:

        def rate(proxy: Proxy, seconds: float = seconds) -> float:
            return _rate(bed, proxy, f"{proxy.site.prefixes[-1]}/k1", seconds=seconds)

        for proxy in (few, many):
            rate(proxy, 1)
        found = [rate(proxy) for proxy in (few, many, many, few)]
    few_rate, many_rate = (found[0] + found[3]) / 2, (found[1] + found[2]) / 2
    return {"rps_few": few_rate, "rps_many": many_rate, "slower": 100 * (1 - many_rate / few_rate)}


def _idle(bed: Bed, peer: Peer) -> Values:
    with _fresh(bed, peer) as proxy:
        time.sleep(_SETTLE)
        return {"resident": _resident(proxy)}


def _sockets(bed: Bed, peer: Peer) -> Values:
    with _fresh(bed, peer) as proxy:
        time.sleep(_SETTLE)
        idle = _resident(proxy)
        with bed.holding(proxy, catalogue.IDLE_SOCKETS):
            time.sleep(_SETTLE)
            resident = _resident(proxy)
    return {"resident": resident, "each": 1000 * (resident - idle) / catalogue.IDLE_SOCKETS}


def _start(bed: Bed, peer: Peer) -> Values:
    with _fresh(bed, peer) as proxy:
        assert proxy.process is not None
        whole = sum(machine.cpu_seconds(pid, gone=True) for pid in machine.family(proxy.process.pid))
        return {"own": proxy.cpu_seconds(), "whole": whole, "wall": proxy.seconds_to_answer}


def _events(connections: int, batch: int, rows: int) -> Measure:
    """Events in batches of `batch`; the bare group commit has `rows` rows in each transaction."""

    def measure(bed: Bed, peer: Peer) -> Values:
        if peer.name == SQLITE:
            return bed.load("group_commit", bed.folder, rows, bed.options.seconds, python=ours.python())
        proxy = bed.proxy(peer)
        values: Values = {}
        path = f"{traffic.INGEST}?events={batch}"
        _rate(bed, proxy, path, connections=connections, seconds=1)
        with _cpu(proxy, values):
            values["rps"] = batch * _rate(bed, proxy, path, connections=connections)
        if batch == 1:
            found = bed.load("latency", proxy.port(path), values["rps"] / 3, bed.options.seconds, "ingest")
            values["p99"] = found["p99"]
        return values

    return measure


def _fan_out(bed: Bed, peer: Peer) -> Values:
    is_gateway = peer.hello is None
    with _fresh(bed, replace(peer, prepare=ours.for_listeners) if is_gateway else peer) as proxy:
        proxy.await_store()
        time.sleep(_SETTLE)
        before = _resident(proxy)
        assert proxy.process is not None
        machine.forget_peak(proxy.process.pid)

        def run(rate: int) -> Values:
            arguments = (bed.options.seconds, rate, catalogue.LISTENERS, catalogue.STALLED)
            kind = "gateway" if is_gateway else peer.name
            return bed.load("listeners", kind, proxy.site.port, *arguments, package="bench.events")

        paced, most = run(catalogue.EVENT_RATE), run(0)
        return {
            "most": most["deliveries"],
            "paced": paced["deliveries"],
            "p99": paced["p99"],
            "growth": _peak(proxy) - before,
            "cut_off": paced["cut_off"] + most["cut_off"],
        }


def _search(bed: Bed, peer: Peer) -> Values:
    with _fresh(bed, peer) as proxy:
        proxy.await_store()
        arguments = (proxy.site.folder / "data" / "tentaculo.db", catalogue.STORED)
        bed.load("fill_log", *arguments, seconds=600, python=ours.python())

        def ingest() -> float:
            rate = catalogue.SEARCHED_BESIDE
            return bed.load("latency", proxy.site.port, rate, bed.options.seconds, "ingest")["p99"]

        alone = ingest()
        with ThreadPoolExecutor(1) as pool:
            searching = pool.submit(bed.load, "search", proxy.site.port, bed.options.seconds)
            beside = ingest()
            return {**searching.result(), "alone": alone, "beside": beside}


def _peak(proxy: Proxy) -> float:
    assert proxy.process is not None
    return machine.peak(proxy.process.pid) / catalogue.MB


def _resident(proxy: Proxy) -> float:
    assert proxy.process is not None
    return machine.resident(proxy.process.pid) / catalogue.MB


@contextmanager
def _fresh(bed: Bed, peer: Peer, routes: int = 0) -> Iterator[Proxy]:
    proxy = bed.fresh(peer, routes)
    try:
        yield proxy
    finally:
        proxy.stop()


MEASURES: dict[str, Measure] = {
    "get": _requests(traffic.SMALL),
    "varied": _requests(traffic.VARIED),
    "post": _requests(traffic.POST),
    "latency": _latency,
    "download": _transfer("download", traffic.BIG),
    "upload": _transfer("upload", traffic.UPLOAD),
    "websocket": _websocket,
    "sse": _sse,
    "connections": _connections,
    "routes": _routes,
    "idle": _idle,
    "sockets": _sockets,
    "ingest": _events(64, 1, 64),
    "ingest100": _events(8, traffic.BATCH, 800),
    catalogue.FAN_OUT: _fan_out,
    catalogue.SEARCH: _search,
    "start": _start,
}
