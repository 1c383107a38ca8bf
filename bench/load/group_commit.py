"""The bare group commit: what SQLite alone stores durably, without a network and without a gateway.

    python -m bench.load.group_commit FOLDER ROWS SECONDS

The table, the rows and the settings are the gateway's; each transaction has ROWS rows.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import traffic
from tentaculo.store.migrate import upgrade

_INSERT = (
    "INSERT INTO tentaculo_events (id, source, type, payload, metadata, canonical, broadcast, received_at, size)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


def measure(file: Path, rows: int, seconds: float) -> dict[str, float]:
    """Rows per second, by the clock."""
    event = json.loads(traffic.EVENT)
    payload = json.dumps(event["payload"])
    upgrade(f"sqlite:///{file}")
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        stored, begin = 0, time.perf_counter()
        while (took := time.perf_counter() - begin) < seconds:
            values = (event["source"], event["type"], payload, "{}", False, True, "2026-11-28 00:00:00.000000", 200)
            batch = [(stored + number + 1, *values) for number in range(rows)]
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(_INSERT, batch)
            connection.execute("UPDATE tentaculo_event_sequence SET last_id = ?", (stored + rows,))
            connection.execute("COMMIT")
            stored += rows
    return {"rps": stored / took}


if __name__ == "__main__":
    with TemporaryDirectory(dir=sys.argv[1]) as folder:
        print(json.dumps(measure(Path(folder) / "events.db", int(sys.argv[2]), float(sys.argv[3]))))
