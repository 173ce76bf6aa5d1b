"""Jobs, the tables they use, and their versions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "hlink_0002"
down_revision = "hlink_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "hlink_job",
        sa.Column("create_by", sa.String(length=128), nullable=False),
        sa.Column("create_time", sa.BigInteger(), nullable=False),
        sa.Column("modify_by", sa.String(length=128), nullable=False),
        sa.Column("modify_time", sa.BigInteger(), nullable=False),
        sa.Column("del_flag", sa.Integer(), nullable=False),
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("code", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("description", sa.String(length=2000), nullable=False),
        sa.Column("kind", sa.Integer(), nullable=False),
        sa.Column("cluster_id", sa.BigInteger(), nullable=False),
        sa.Column("settings", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    kept = sa.text("del_flag = 1")
    op.create_index("hlink_job_name", "hlink_job", ["name"], unique=True, sqlite_where=kept, postgresql_where=kept)
    op.create_index("ix_hlink_job_cluster_id", "hlink_job", ["cluster_id"])
    op.create_table(
        "hlink_job_table",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("table_id", sa.BigInteger(), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("sql", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["hlink_job.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_hlink_job_table_job_id", "hlink_job_table", ["job_id"])
    op.create_index("ix_hlink_job_table_table_id", "hlink_job_table", ["table_id"])
    op.create_table(
        "hlink_job_version",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("script", sa.Text(), nullable=False),
        sa.Column("compiled", sa.Text(), nullable=False),
        sa.Column("options", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["hlink_job.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("hlink_job_version_number", "hlink_job_version", ["job_id", "number"], unique=True)
