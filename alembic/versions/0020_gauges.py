"""Make the table of the numbers in health responses that early warnings follow.

The downgrade removes the table and its note, and no more.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

GAUGES = "tentaculo_gauges"
NOTES = "tentaculo_schema_notes"

notes = sa.table(NOTES, sa.column("id"), sa.column("revision"), sa.column("table_name"), sa.column("column_name"))


def upgrade() -> None:
    op.create_table(
        GAUGES,
        sa.Column("service", sa.Text, primary_key=True),
        sa.Column("signal", sa.String(64), primary_key=True),
        sa.Column("start", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("value", sa.Float, nullable=False),
    )
    op.create_index("ix_tentaculo_gauges_start", GAUGES, ["start"])
    op.execute(notes.insert().values(revision=revision, table_name=GAUGES, column_name=None))


def downgrade() -> None:
    # A table that somebody has removed by hand already needs nothing.
    if sa.inspect(op.get_bind()).has_table(GAUGES):
        op.drop_table(GAUGES)
    op.execute(notes.delete().where(notes.c.revision == revision))
