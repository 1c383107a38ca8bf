"""Fill the log of a running gateway with events, and its skip index, behind its back.

    python -m bench.load.fill_log FILE ROWS

The events are those of a shop: identifiers, numbers and times that differ, and words that do not.
"""

from __future__ import annotations

import json
import sys
import time
import uuid
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from random import Random

from sqlalchemy import Connection

from tentaculo.model.event import Event
from tentaculo.store.database import connect, parse_url
from tentaculo.store.event_blocks import BlockBuilder, store_block
from tentaculo.store.events import append_events, event_row

_BATCH = 1000
_STATES = ("paid", "open", "failed")


def event(random: Random, number: int) -> Event:
    """One event of some 330 bytes."""
    payload = {
        "order": str(uuid.UUID(int=random.getrandbits(128))),
        "customer": random.randrange(10**8),
        "placed": 1764387000000 + number,
        "status": random.choice(_STATES),
        "message": f"the order was received and will be shipped from warehouse {random.randrange(50)}",
        "items": [random.randrange(9999) for _ in range(4)],
    }
    return Event(number + 1, random.choice(("orders", "stock", "billing")), "order.placed", payload, datetime.now(UTC))


def index(connection: Connection) -> None:
    """Make the blocks that the gateway would make in its pauses."""
    builder = BlockBuilder()
    while builder.begin(connection):
        while builder.step(connection):
            pass
        connection.commit()
        if builder.block is None:
            return
        store_block(connection, builder.block)
        connection.commit()


def fill(file: Path, rows: int) -> dict[str, float]:
    """The seconds that it took."""
    random, begin = Random(20_000), time.perf_counter()  # noqa: S311
    with closing(connect(parse_url(f"sqlite:///{file}"))) as connection:
        for start in range(0, rows, _BATCH):
            some = [event_row(event(random, number)) for number in range(start, min(start + _BATCH, rows))]
            with connection.begin():
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                append_events(connection, some)
        index(connection)
    return {"seconds": time.perf_counter() - begin}


if __name__ == "__main__":
    print(json.dumps(fill(Path(sys.argv[1]), int(sys.argv[2]))))
