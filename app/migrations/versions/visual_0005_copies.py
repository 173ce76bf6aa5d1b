"""Data sets that are copied from tables of stream jobs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "visual_0005"
down_revision = "visual_0004"
branch_labels = None
depends_on = None

_COLUMNS = ("extract_order", "progress", "origin")


def upgrade() -> None:
    for name in _COLUMNS:
        op.add_column("visual_dataset", sa.Column(name, sa.JSON(), nullable=True))


def downgrade() -> None:
    for name in _COLUMNS:
        op.drop_column("visual_dataset", name)
