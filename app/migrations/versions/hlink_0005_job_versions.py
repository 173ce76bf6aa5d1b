"""The definition that a version was planned from, and what became of a job outside of its runs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "hlink_0005"
down_revision = "hlink_0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("hlink_job_version", sa.Column("definition", sa.JSON(), nullable=True))
    op.create_table(
        "hlink_job_message",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["hlink_job.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("hlink_job_messages_of_job", "hlink_job_message", ["job_id", "id"])
