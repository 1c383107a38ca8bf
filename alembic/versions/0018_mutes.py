"""Make the table of mutes of incidents.

The downgrade removes the table and its note, and no more.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0015"
branch_labels = None
depends_on = None

MUTES = "tentaculo_mutes"
NOTES = "tentaculo_schema_notes"

notes = sa.table(NOTES, sa.column("id"), sa.column("revision"), sa.column("table_name"), sa.column("column_name"))


def upgrade() -> None:
    op.create_table(
        MUTES,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("incident", sa.BigInteger, nullable=False),
        sa.Column("muted_at", sa.DateTime, nullable=False),
        sa.Column("until_at", sa.DateTime),
        sa.Column("author", sa.Text, nullable=False),
    )
    op.create_index("ix_tentaculo_mutes_incident", MUTES, ["incident", "id"])
    op.execute(notes.insert().values(revision=revision, table_name=MUTES, column_name=None))


def downgrade() -> None:
    # A table that somebody has removed by hand already needs nothing.
    if sa.inspect(op.get_bind()).has_table(MUTES):
        op.drop_table(MUTES)
    op.execute(notes.delete().where(notes.c.revision == revision))
