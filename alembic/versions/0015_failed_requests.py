"""Keep with an incident the requests that it cost, and when its service last failed again.

The columns are nullable: a row that an older version wrote has no value there. The downgrade removes the columns and
their notes, and no more.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

INCIDENTS = "tentaculo_incidents"
COLUMNS = (
    ("reopened_at", sa.DateTime()),
    ("failed_requests", sa.BigInteger()),
    ("counted_until", sa.DateTime()),
)
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
