"""Keep the reason of an incident as a code and values, so that it can be translated.

The columns are nullable: a row that an older version wrote has its text only. The downgrade removes the columns and
their notes, and no more.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

INCIDENTS = "tentaculo_incidents"
COLUMNS = (("reason_code", sa.String(64)), ("reason_values", sa.Text()))
NOTES = "tentaculo_schema_notes"

notes = sa.table(NOTES, sa.column("id"), sa.column("revision"), sa.column("table_name"), sa.column("column_name"))


def upgrade() -> None:
    for name, kind in COLUMNS:
        op.add_column(INCIDENTS, sa.Column(name, kind, nullable=True))
        op.execute(notes.insert().values(revision=revision, table_name=INCIDENTS, column_name=name))


def downgrade() -> None:
    # A column that somebody has removed by hand already needs nothing.
    inspector = sa.inspect(op.get_bind())
    known = {one["name"] for one in inspector.get_columns(INCIDENTS)} if inspector.has_table(INCIDENTS) else set()
    for name, _ in reversed(COLUMNS):
        if name in known:
            op.drop_column(INCIDENTS, name)
    op.execute(notes.delete().where(notes.c.revision == revision))
