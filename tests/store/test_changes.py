"""The row with the changes of the write API, on SQLite and PostgreSQL."""

from __future__ import annotations

from tentaculo.store.changes import StoredChanges, read_changes, read_revision, replace_changes
from tests.support.runtime_tables import opened

FIRST, SECOND = StoredChanges(3, b'{"revision": 3, "by": "\xc3\xb1"}'), StoredChanges(4, b"{}")


def test_the_first_machine_brings_its_changes(url: str) -> None:
    with opened(url) as connection:
        assert read_changes(connection) is None
        assert read_revision(connection) is None
        assert replace_changes(connection, 2, FIRST)
        assert read_changes(connection) == FIRST


def test_a_change_for_an_earlier_revision_is_refused(url: str) -> None:
    with opened(url) as connection:
        assert replace_changes(connection, 0, FIRST)
        assert not replace_changes(connection, 2, SECOND)
        assert read_changes(connection) == FIRST
        assert replace_changes(connection, 3, SECOND)
        assert (read_changes(connection), read_revision(connection)) == (SECOND, 4)
        assert not replace_changes(connection, 3, SECOND)
