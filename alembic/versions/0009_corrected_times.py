"""Keep with each event when it happened by our own clock, as it was known at its receipt.

The columns are nullable: an event that an older version stored, and one whose clock was not known, has no value there.
The downgrade removes the columns and the notes, and no more.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

EVENTS = "tentaculo_events"
COLUMNS = (("corrected_ms", sa.BigInteger), ("corrected_width_ms", sa.Integer))
NOTES = "tentaculo_schema_notes"

notes = sa.table(NOTES, sa.column("id"), sa.column("revision"), sa.column("table_name"), sa.column("column_name"))


def upgrade() -> None:
    for name, kind in COLUMNS:
        op.add_column(EVENTS, sa.Column(name, kind, nullable=True))
        op.execute(notes.insert().values(revision=revision, table_name=EVENTS, column_name=name))


def downgrade() -> None:
    # What somebody has removed by hand already needs nothing.
    inspector = sa.inspect(op.get_bind())
    present = {column["name"] for column in inspector.get_columns(EVENTS)} if inspector.has_table(EVENTS) else set()
    for name, _ in reversed(COLUMNS):
        if name in present:
            op.drop_column(EVENTS, name)
    op.execute(notes.delete().where(notes.c.revision == revision))
