"""Have the bytes of events counted again: those of the gateway's own events no longer belong to them.

The next event that is stored counts what is there. The downgrade does the same, for a version that counts all.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None

SEQUENCE = sa.table("tentaculo_event_sequence", sa.column("total_bytes", sa.BigInteger))


def upgrade() -> None:
    _count_later()


def downgrade() -> None:
    _count_later()


def _count_later() -> None:
    # A table that somebody has removed by hand already needs nothing.
    if sa.inspect(op.get_bind()).has_table(SEQUENCE.name):
        op.execute(SEQUENCE.update().values(total_bytes=None))
