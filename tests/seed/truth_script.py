"""The runtime truth script as VX11 7.0 describes it, in our words: a program that shares the gateway's database.

    truth_script.py DATABASE NAME=URL …

It asks each URL, then writes a row for each service into `copilot_runtime_services` with the columns that the table has.
INSERT OR REPLACE gives a row a new id; that is how this script works, and the gateway must accept it.
"""

from __future__ import annotations

import sqlite3
import sys
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

TABLE = "copilot_runtime_services"


def probe(url: str) -> dict[str, Any]:
    """Ask once, and say what came."""
    started = time.monotonic()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=3) as response:
            code, body = response.status, response.read(200)
    except urllib.error.HTTPError as error:
        code, body = error.code, error.read(200)
    except OSError as error:
        code, body = None, str(error).encode()
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")
    return {
        "host": urlsplit(url).hostname,
        "port": urlsplit(url).port,
        "health_url": url,
        "status": "OK" if code == 200 else "BROKEN",
        "http_code": code,
        "latency_ms": round(1000 * (time.monotonic() - started)),
        "endpoint_ok": urlsplit(url).path if code == 200 else None,
        "snippet": body.decode(errors="replace"),
        "last_check": now,
        "checked_at": now,
    }


def write(database: str, results: dict[str, dict[str, Any]]) -> None:
    """Write the rows; a column that the table lacks is left out."""
    with sqlite3.connect(database, timeout=10) as connection:
        there = {row[1] for row in connection.execute(f"PRAGMA table_info({TABLE})")}
        for name, result in results.items():
            row = {key: value for key, value in {"service_name": name, **result}.items() if key in there}
            marks = ", ".join("?" * len(row))
            # The names of the columns are this file's own.
            statement = f"INSERT OR REPLACE INTO {TABLE} ({', '.join(row)}) VALUES ({marks})"
            connection.execute(statement, tuple(row.values()))
    connection.close()


def main() -> None:
    """Probe each service, print a line for each, and write the table."""
    database, *services = sys.argv[1:]
    results = {name: probe(url) for name, _, url in (service.partition("=") for service in services)}
    for name, result in results.items():
        print(f"{name}: {result['status']} {result['http_code']}")
    write(database, results)


if __name__ == "__main__":
    main()
