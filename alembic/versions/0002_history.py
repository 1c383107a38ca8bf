"""Make the table of history: the counts of probes and requests, per service and minute, hour and day.

The downgrade removes the table and its note, and no more.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

HISTORY = "tentaculo_history"
NOTES = "tentaculo_schema_notes"

notes = sa.table(NOTES, sa.column("id"), sa.column("revision"), sa.column("table_name"), sa.column("column_name"))


def upgrade() -> None:
    op.create_table(
        HISTORY,
        sa.Column("service", sa.Text, primary_key=True),
        sa.Column("span", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("start", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("probes_ok", sa.BigInteger, nullable=False),
        sa.Column("probes_failed", sa.BigInteger, nullable=False),
        sa.Column("probes_latency", sa.LargeBinary, nullable=False),
        sa.Column("requests_ok", sa.BigInteger, nullable=False),
        sa.Column("requests_failed", sa.BigInteger, nullable=False),
        sa.Column("requests_latency", sa.LargeBinary, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_tentaculo_history_span_start", HISTORY, ["span", "start"])
    op.execute(notes.insert().values(revision=revision, table_name=HISTORY, column_name=None))


def downgrade() -> None:
    # Whoever has removed the table by hand has only spared us the work.
    if sa.inspect(op.get_bind()).has_table(HISTORY):
        op.drop_table(HISTORY)
    op.execute(notes.delete().where(notes.c.revision == revision))
