"""Make the table of the requests of each route, per minute, hour and day.

The downgrade removes the table and its note, and no more.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

ROUTE_HISTORY = "tentaculo_route_history"
NOTES = "tentaculo_schema_notes"

notes = sa.table(NOTES, sa.column("id"), sa.column("revision"), sa.column("table_name"), sa.column("column_name"))


def upgrade() -> None:
    op.create_table(
        ROUTE_HISTORY,
        sa.Column("service", sa.Text, primary_key=True),
        sa.Column("route", sa.Text, primary_key=True),
        sa.Column("span", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("start", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("requests_ok", sa.BigInteger, nullable=False),
        sa.Column("requests_failed", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_tentaculo_route_history_span_start", ROUTE_HISTORY, ["span", "start"])
    op.execute(notes.insert().values(revision=revision, table_name=ROUTE_HISTORY, column_name=None))


def downgrade() -> None:
    # A table that somebody has removed by hand already needs nothing.
    if sa.inspect(op.get_bind()).has_table(ROUTE_HISTORY):
        op.drop_table(ROUTE_HISTORY)
    op.execute(notes.delete().where(notes.c.revision == revision))
