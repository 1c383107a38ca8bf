"""Find events by their severity: an index of those that have one. Of others no commit takes longer.

The table stays as it is. The downgrade drops the index.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None

EVENTS = "tentaculo_events"
SEVERITIES = "ix_tentaculo_events_severity_id"
HAS_SEVERITY = sa.text("severity IS NOT NULL")


def upgrade() -> None:
    op.create_index(SEVERITIES, EVENTS, ["severity", "id"], sqlite_where=HAS_SEVERITY, postgresql_where=HAS_SEVERITY)


def downgrade() -> None:
    # What somebody has removed by hand already needs nothing.
    found = sa.inspect(op.get_bind())
    if found.has_table(EVENTS) and SEVERITIES in {index["name"] for index in found.get_indexes(EVENTS)}:
        op.drop_index(SEVERITIES, EVENTS)
