"""A search through the whole log, page by page, again and again.

python -m bench.load.search PORT SECONDS
"""

from __future__ import annotations

import http.client
import json
import sys
import time

from bench import traffic
from bench.stats import percentile

TEXT = "no-event-says-zygomorphic"


def search(client: http.client.HTTPConnection) -> int:
    """Follow `next` to the end; returns how many responses that took. Raises `ConnectionError` where one is refused."""
    responses, before = 0, ""
    while True:
        client.request("GET", f"/events?text={TEXT}&limit=100{before}", headers=dict(traffic.HEADERS))
        response = client.getresponse()
        body = response.read()
        if response.status != 200:
            raise ConnectionError(f"refused: {response.status} {body[:200]!r}")
        page, responses = json.loads(body), responses + 1
        if page["next"] is None:
            return responses
        before = f"&before={page['next']}"


def measure(port: int, seconds: float) -> dict[str, float]:
    """The median of a whole search in milliseconds, and its responses on average."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    search(client)
    taken, responses, begin = list[float](), 0, time.perf_counter()
    while time.perf_counter() - begin < seconds or not taken:
        start = time.perf_counter()
        responses += search(client)
        taken.append((time.perf_counter() - start) * 1000)
    return {"whole": percentile(taken, 50), "responses": responses / len(taken)}


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]), float(sys.argv[2]))))
