"""Make the table of early warnings, with what became of each.

The downgrade removes the table and its note, and no more.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0018"
branch_labels = None
depends_on = None

WARNINGS = "tentaculo_early_warnings"
NOTES = "tentaculo_schema_notes"

notes = sa.table(NOTES, sa.column("id"), sa.column("revision"), sa.column("table_name"), sa.column("column_name"))


def upgrade() -> None:
    op.create_table(
        WARNINGS,
        sa.Column("service", sa.Text, primary_key=True),
        sa.Column("signal", sa.String(64), primary_key=True),
        sa.Column("opened_at", sa.DateTime, primary_key=True),
        sa.Column("rule", sa.String(16), nullable=False),
        sa.Column("level", sa.Float, nullable=False),
        sa.Column("usual", sa.Float, nullable=False),
        sa.Column("limit_value", sa.Float, nullable=False),
        sa.Column("since", sa.DateTime, nullable=False),
        sa.Column("per_minute", sa.Float, nullable=False),
        sa.Column("expected_at", sa.DateTime),
        sa.Column("earliest_at", sa.DateTime),
        sa.Column("latest_at", sa.DateTime),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("ended_at", sa.DateTime),
    )
    op.create_index("ix_tentaculo_early_warnings_opened_at", WARNINGS, ["opened_at"])
    op.execute(notes.insert().values(revision=revision, table_name=WARNINGS, column_name=None))


def downgrade() -> None:
    # A table that somebody has removed by hand already needs nothing.
    if sa.inspect(op.get_bind()).has_table(WARNINGS):
        op.drop_table(WARNINGS)
    op.execute(notes.delete().where(notes.c.revision == revision))
