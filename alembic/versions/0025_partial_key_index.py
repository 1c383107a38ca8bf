"""Leave events without a producer's key out of the index of keys: most have none, and each had an entry.

The table stays as it is. The downgrade brings the whole index back.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

EVENTS = "tentaculo_events"
KEYS = "ix_tentaculo_events_source_key"
HAS_KEY = sa.text("key IS NOT NULL")


def upgrade() -> None:
    _drop()
    op.create_index(KEYS, EVENTS, ["source", "key"], unique=True, sqlite_where=HAS_KEY, postgresql_where=HAS_KEY)


def downgrade() -> None:
    # A table that somebody has removed by hand already needs nothing.
    if sa.inspect(op.get_bind()).has_table(EVENTS):
        _drop()
        op.create_index(KEYS, EVENTS, ["source", "key"], unique=True)


def _drop() -> None:
    # What somebody has removed by hand already needs nothing.
    if KEYS in {index["name"] for index in sa.inspect(op.get_bind()).get_indexes(EVENTS)}:
        op.drop_index(KEYS, EVENTS)
