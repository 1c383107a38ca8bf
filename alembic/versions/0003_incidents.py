"""Make the tables of incidents, of what people note about them, and of planned maintenance.

The downgrade removes the three tables and their notes, and no more.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

INCIDENTS = "tentaculo_incidents"
INCIDENT_NOTES = "tentaculo_incident_notes"
MAINTENANCE = "tentaculo_maintenance"
NOTES = "tentaculo_schema_notes"

notes = sa.table(NOTES, sa.column("id"), sa.column("revision"), sa.column("table_name"), sa.column("column_name"))


def upgrade() -> None:
    op.create_table(
        INCIDENTS,
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=False),
        sa.Column("root", sa.Text, nullable=False),
        sa.Column("services", sa.Text, nullable=False),
        sa.Column("severity", sa.String(16), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("started_at", sa.DateTime, nullable=False),
        sa.Column("seen_at", sa.DateTime, nullable=False),
        sa.Column("ended_at", sa.DateTime),
        sa.Column("ending", sa.Text, nullable=False),
        sa.Column("peak_error_rate", sa.Float),
        sa.Column("reopened", sa.Integer, nullable=False),
        sa.Column("part_of", sa.BigInteger),
        sa.Column("told", sa.String(16), nullable=False),
        sa.Column("told_at", sa.DateTime),
        sa.Column("told_services", sa.Integer, nullable=False),
    )
    op.create_index("ix_tentaculo_incidents_ended_at", INCIDENTS, ["ended_at"])
    op.create_table(
        INCIDENT_NOTES,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("incident", sa.BigInteger, nullable=False),
        sa.Column("written_at", sa.DateTime, nullable=False),
        sa.Column("author", sa.Text, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
    )
    op.create_index("ix_tentaculo_incident_notes_incident", INCIDENT_NOTES, ["incident"])
    op.create_table(
        MAINTENANCE,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("services", sa.Text, nullable=False),
        sa.Column("starts_at", sa.DateTime, nullable=False),
        sa.Column("ends_at", sa.DateTime, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("author", sa.Text, nullable=False),
    )
    op.create_index("ix_tentaculo_maintenance_ends_at", MAINTENANCE, ["ends_at"])
    for table in (INCIDENTS, INCIDENT_NOTES, MAINTENANCE):
        op.execute(notes.insert().values(revision=revision, table_name=table, column_name=None))


def downgrade() -> None:
    # Whoever has removed one by hand has only spared us the work.
    inspector = sa.inspect(op.get_bind())
    for table in (MAINTENANCE, INCIDENT_NOTES, INCIDENTS):
        if inspector.has_table(table):
            op.drop_table(table)
    op.execute(notes.delete().where(notes.c.revision == revision))
