"""Experiments, their jobs, and the nodes of these."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "visual_0002"
down_revision = "visual_0001"
branch_labels = None
depends_on = None


def _audited() -> list[sa.Column[Any]]:
    return [
        sa.Column("create_by", sa.String(length=128), nullable=False),
        sa.Column("create_time", sa.BigInteger(), nullable=False),
        sa.Column("modify_by", sa.String(length=128), nullable=False),
        sa.Column("modify_time", sa.BigInteger(), nullable=False),
        sa.Column("del_flag", sa.Integer(), nullable=False),
    ]


def upgrade() -> None:
    op.create_table(
        "visual_experiment",
        *_audited(),
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("pattern", sa.Integer(), nullable=False),
        sa.Column("learning", sa.Integer(), nullable=False),
        sa.Column("framework", sa.Integer(), nullable=False),
        sa.Column("description", sa.String(length=2000), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    kept = sa.text("del_flag = 1")
    op.create_index(
        "visual_experiment_name", "visual_experiment", ["name"], unique=True, sqlite_where=kept, postgresql_where=kept
    )
    op.create_table(
        "visual_job",
        *_audited(),
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("experiment_id", sa.BigInteger(), nullable=False),
        sa.Column("purpose", sa.Integer(), nullable=False),
        sa.Column("last_run_id", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_visual_job_experiment_id", "visual_job", ["experiment_id"])
    op.create_table(
        "visual_node",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("top", sa.Integer(), nullable=False),
        sa.Column("left", sa.Integer(), nullable=False),
        sa.Column("component", sa.String(length=200), nullable=False),
        sa.Column("info", sa.JSON(), nullable=False),
        sa.Column("attributes", sa.JSON(), nullable=False),
        sa.Column("edges", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_visual_node_job_id", "visual_node", ["job_id"])


def downgrade() -> None:
    op.drop_table("visual_node")
    op.drop_table("visual_job")
    op.drop_table("visual_experiment")
