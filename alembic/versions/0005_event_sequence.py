"""Make the table of the greatest event id, so that ids grow whatever the clock does.

The first event writes its row. The downgrade removes the table and its note, and no more.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

SEQUENCE = "tentaculo_event_sequence"
NOTES = "tentaculo_schema_notes"

notes = sa.table(NOTES, sa.column("id"), sa.column("revision"), sa.column("table_name"), sa.column("column_name"))


def upgrade() -> None:
    op.create_table(
        SEQUENCE,
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("last_id", sa.BigInteger, nullable=False),
    )
    op.execute(notes.insert().values(revision=revision, table_name=SEQUENCE, column_name=None))


def downgrade() -> None:
    # A table that somebody has removed by hand already needs nothing.
    if sa.inspect(op.get_bind()).has_table(SEQUENCE):
        op.drop_table(SEQUENCE)
    op.execute(notes.delete().where(notes.c.revision == revision))
