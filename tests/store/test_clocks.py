"""Offsets of clocks in the database, against its own clock."""

from __future__ import annotations

import time

from tentaculo.store import migrate
from tentaculo.store.clocks import StoredOffset, read_clock, read_offsets, store_offsets
from tests.support.postgresql import Server
from tests.support.runtime_tables import opened


def test_the_offsets_are_those_that_were_stored_last(postgresql: Server) -> None:
    first = StoredOffset("madre", "h:1", -1e12 - 0.25, 1e12 + 0.25, 7)
    others = [StoredOffset("madre", "h:2", -1.5, 2.5, 8), StoredOffset("switch", "h:1", 0.0, 0.5, 9)]
    with postgresql.database(postgresql.template("migrated", migrate.upgrade)) as url, opened(url) as connection:
        assert read_offsets(connection)[1] == []
        for stored in ([first], others, []):
            store_offsets(connection, stored)
            moment, found = read_offsets(connection)
            assert sorted(found) == stored
        # The server runs on this machine.
        assert abs(moment - time.time() * 1000) < 60_000
        assert read_clock(connection) >= moment
