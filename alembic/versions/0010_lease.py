"""Make the table of the lease, so that one of several machines on this database probes and alerts.

It has one row at most. The downgrade removes the table and its note, and no more.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

LEASE = "tentaculo_lease"
NOTES = "tentaculo_schema_notes"

notes = sa.table(NOTES, sa.column("id"), sa.column("revision"), sa.column("table_name"), sa.column("column_name"))


def upgrade() -> None:
    op.create_table(
        LEASE,
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("ends_ms", sa.BigInteger, nullable=False),
    )
    op.execute(notes.insert().values(revision=revision, table_name=LEASE, column_name=None))


def downgrade() -> None:
    # A table that somebody has removed by hand already needs nothing.
    if sa.inspect(op.get_bind()).has_table(LEASE):
        op.drop_table(LEASE)
    op.execute(notes.delete().where(notes.c.revision == revision))
