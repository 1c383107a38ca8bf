"""Make the table of tickets, so that a ticket works once on whichever worker or machine it arrives.

A row lives for a minute. The downgrade removes the table and its note, and no more.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

TICKETS = "tentaculo_tickets"
NOTES = "tentaculo_schema_notes"

notes = sa.table(NOTES, sa.column("id"), sa.column("revision"), sa.column("table_name"), sa.column("column_name"))


def upgrade() -> None:
    op.create_table(
        TICKETS,
        sa.Column("hash", sa.Text, primary_key=True),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.Column("issued_by", sa.Text, nullable=False),
    )
    op.create_index("ix_tentaculo_tickets_expires_at", TICKETS, ["expires_at"])
    op.execute(notes.insert().values(revision=revision, table_name=TICKETS, column_name=None))


def downgrade() -> None:
    # A table that somebody has removed by hand already needs nothing.
    if sa.inspect(op.get_bind()).has_table(TICKETS):
        op.drop_table(TICKETS)
    op.execute(notes.delete().where(notes.c.revision == revision))
