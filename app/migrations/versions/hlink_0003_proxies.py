"""Logins of clusters behind an authenticating proxy."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "hlink_0003"
down_revision = "hlink_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("hlink_cluster", sa.Column("login", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("hlink_cluster", "login")
