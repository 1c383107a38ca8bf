"""Make the table of the offsets of the services' clocks, which machines that do not probe read.

The downgrade removes the table and its note, and no more.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

CLOCKS = "tentaculo_clocks"
NOTES = "tentaculo_schema_notes"

notes = sa.table(NOTES, sa.column("id"), sa.column("revision"), sa.column("table_name"), sa.column("column_name"))


def upgrade() -> None:
    op.create_table(
        CLOCKS,
        sa.Column("service", sa.Text, primary_key=True),
        sa.Column("endpoint", sa.Text, primary_key=True),
        sa.Column("low_ms", sa.Float(53), nullable=False),
        sa.Column("high_ms", sa.Float(53), nullable=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
    )
    op.execute(notes.insert().values(revision=revision, table_name=CLOCKS, column_name=None))


def downgrade() -> None:
    # A table that somebody has removed by hand already needs nothing.
    if sa.inspect(op.get_bind()).has_table(CLOCKS):
        op.drop_table(CLOCKS)
    op.execute(notes.delete().where(notes.c.revision == revision))
