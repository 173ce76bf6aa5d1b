"""Functions that users upload, their versions, and which of them a job's version was planned with."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "hlink_0004"
down_revision = "hlink_0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "hlink_function",
        sa.Column("create_by", sa.String(length=128), nullable=False),
        sa.Column("create_time", sa.BigInteger(), nullable=False),
        sa.Column("modify_by", sa.String(length=128), nullable=False),
        sa.Column("modify_time", sa.BigInteger(), nullable=False),
        sa.Column("del_flag", sa.Integer(), nullable=False),
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("key", sa.String(length=100), nullable=False),
        sa.Column("description", sa.String(length=2000), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("implementation", sa.String(length=500), nullable=False),
        sa.Column("file_name", sa.String(length=200), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("suffix", sa.String(length=8), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("key"),
    )
    op.create_table(
        "hlink_function_version",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("function_id", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("implementation", sa.String(length=500), nullable=False),
        sa.Column("file_name", sa.String(length=200), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("hlink_function_version_number", "hlink_function_version", ["function_id", "number"], unique=True)
    op.add_column("hlink_job_version", sa.Column("functions", sa.JSON(), nullable=False, server_default="[]"))
