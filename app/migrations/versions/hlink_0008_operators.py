"""The numbers of a job's operators, which are never given twice."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "hlink_0008"
down_revision = "hlink_0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("hlink_job_version", sa.Column("highest_operator", sa.Integer(), nullable=False, server_default="0"))
