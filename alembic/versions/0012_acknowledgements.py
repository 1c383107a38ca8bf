"""Make the table of acknowledgements of incidents.

The downgrade removes the table and its note, and no more.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

ACKNOWLEDGEMENTS = "tentaculo_acknowledgements"
NOTES = "tentaculo_schema_notes"

notes = sa.table(NOTES, sa.column("id"), sa.column("revision"), sa.column("table_name"), sa.column("column_name"))


def upgrade() -> None:
    op.create_table(
        ACKNOWLEDGEMENTS,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("incident", sa.BigInteger, nullable=False),
        sa.Column("acknowledged_at", sa.DateTime, nullable=False),
        sa.Column("author", sa.Text, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
    )
    op.create_index("ix_tentaculo_acknowledgements_incident", ACKNOWLEDGEMENTS, ["incident", "id"])
    op.execute(notes.insert().values(revision=revision, table_name=ACKNOWLEDGEMENTS, column_name=None))


def downgrade() -> None:
    # A table that somebody has removed by hand already needs nothing.
    if sa.inspect(op.get_bind()).has_table(ACKNOWLEDGEMENTS):
        op.drop_table(ACKNOWLEDGEMENTS)
    op.execute(notes.delete().where(notes.c.revision == revision))
