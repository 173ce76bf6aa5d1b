"""Runs that one machine alone can look after."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "service_0008"
down_revision = "service_0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("run") as run:
        run.add_column(sa.Column("machine", sa.String(length=255), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("run") as run:
        run.drop_column("machine")
