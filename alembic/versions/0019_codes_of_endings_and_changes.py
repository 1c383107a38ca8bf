"""Keep the ending of an incident and the reason of a change of state as a code and values.

The columns are nullable: a row that an older version wrote has its text only. The downgrade removes the columns and
their notes, and no more.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0016"
branch_labels = None
depends_on = None

COLUMNS = (
    ("tentaculo_incidents", "ending_code", sa.String(64)),
    ("tentaculo_incidents", "ending_values", sa.Text()),
    ("tentaculo_state_changes", "reason_code", sa.String(64)),
    ("tentaculo_state_changes", "reason_values", sa.Text()),
)
NOTES = "tentaculo_schema_notes"

notes = sa.table(NOTES, sa.column("id"), sa.column("revision"), sa.column("table_name"), sa.column("column_name"))


def upgrade() -> None:
    for table, name, kind in COLUMNS:
        op.add_column(table, sa.Column(name, kind, nullable=True))
        op.execute(notes.insert().values(revision=revision, table_name=table, column_name=name))


def downgrade() -> None:
    # A column that somebody has removed by hand already needs nothing.
    inspector = sa.inspect(op.get_bind())
    for table, name, _ in reversed(COLUMNS):
        if inspector.has_table(table) and name in {one["name"] for one in inspector.get_columns(table)}:
            op.drop_column(table, name)
    op.execute(notes.delete().where(notes.c.revision == revision))
