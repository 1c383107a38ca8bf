"""Make the table of the blocks of events, which says where a search need not look.

The gateway fills it behind the log. The downgrade removes the table and its note, and no more.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

BLOCKS = "tentaculo_event_blocks"
NOTES = "tentaculo_schema_notes"

notes = sa.table(NOTES, sa.column("id"), sa.column("revision"), sa.column("table_name"), sa.column("column_name"))


def upgrade() -> None:
    # INTEGER on SQLite makes it the row's own key, without a second index.
    key = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.create_table(
        BLOCKS,
        sa.Column("last_id", key, primary_key=True, autoincrement=False),
        sa.Column("after_id", sa.BigInteger, nullable=False),
        sa.Column("log", sa.String(32), nullable=False),
        sa.Column("bits", sa.LargeBinary, nullable=True),
    )
    op.execute(notes.insert().values(revision=revision, table_name=BLOCKS, column_name=None))


def downgrade() -> None:
    # A table that somebody has removed by hand already needs nothing.
    if sa.inspect(op.get_bind()).has_table(BLOCKS):
        op.drop_table(BLOCKS)
    op.execute(notes.delete().where(notes.c.revision == revision))
