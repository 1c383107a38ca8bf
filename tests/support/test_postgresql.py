"""A server of PostgreSQL that is killed keeps what it has acknowledged."""

from __future__ import annotations

from contextlib import closing

import pytest

from tests.support.postgresql import running_server


@pytest.mark.command
def test_a_server_that_was_killed_has_every_commit() -> None:
    with running_server({"fsync": "off"}) as server:
        server.execute("CREATE TABLE kept (number integer)")
        for number in range(3):
            server.execute(f"INSERT INTO kept VALUES ({number})")
            server.kill()
            server.start()
        with closing(server.connect()) as connection:
            cursor = connection.cursor()
            cursor.execute("SELECT number FROM kept ORDER BY number")
            assert [row[0] for row in cursor.fetchall()] == [0, 1, 2]
