"""The jars that somebody uploaded."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "hlink_0006"
down_revision = "hlink_0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "hlink_jar",
        sa.Column("create_by", sa.String(length=128), nullable=False),
        sa.Column("create_time", sa.BigInteger(), nullable=False),
        sa.Column("modify_by", sa.String(length=128), nullable=False),
        sa.Column("modify_time", sa.BigInteger(), nullable=False),
        sa.Column("del_flag", sa.Integer(), nullable=False),
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("cluster_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("entry_class", sa.String(length=500), nullable=False),
        sa.Column("kind", sa.Integer(), nullable=False),
        sa.Column("on_cluster", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    kept = sa.text("del_flag = 1")
    op.create_index(
        "hlink_jar_once", "hlink_jar", ["cluster_id", "sha256"], unique=True, sqlite_where=kept, postgresql_where=kept
    )
