"""Make the table of the last uses of tokens, and the column that says which token a ticket was given to.

The downgrade removes both and their notes, and no more.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

USES = "tentaculo_token_uses"
TICKETS = "tentaculo_tickets"
NOTES = "tentaculo_schema_notes"

notes = sa.table(NOTES, sa.column("id"), sa.column("revision"), sa.column("table_name"), sa.column("column_name"))


def upgrade() -> None:
    op.create_table(
        USES,
        sa.Column("token", sa.Text, primary_key=True),
        sa.Column("used_at", sa.BigInteger, nullable=False),
    )
    op.execute(notes.insert().values(revision=revision, table_name=USES, column_name=None))
    op.add_column(TICKETS, sa.Column("token", sa.Text))
    op.execute(notes.insert().values(revision=revision, table_name=TICKETS, column_name="token"))


def downgrade() -> None:
    # A table that somebody has removed by hand already needs nothing.
    inspector = sa.inspect(op.get_bind())
    if inspector.has_table(USES):
        op.drop_table(USES)
    if "token" in {column["name"] for column in inspector.get_columns(TICKETS)}:
        op.drop_column(TICKETS, "token")
    op.execute(notes.delete().where(notes.c.revision == revision))
