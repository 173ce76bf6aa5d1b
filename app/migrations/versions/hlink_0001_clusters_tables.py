"""Clusters, and the tables that jobs read, look up and write."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "hlink_0001"
down_revision = None
branch_labels = ("hlink",)
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
        "hlink_cluster",
        *_audited(),
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("address", sa.String(length=500), nullable=False),
        sa.Column("type", sa.Integer(), nullable=False),
        sa.Column("remark", sa.String(length=2000), nullable=False),
        sa.Column("overview", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("observed_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    # A deleted cluster gives its name and address free.
    kept = sa.text("del_flag <> -1")
    for column in ("name", "address"):
        op.create_index(
            f"hlink_cluster_{column}",
            "hlink_cluster",
            [column],
            unique=True,
            sqlite_where=kept,
            postgresql_where=kept,
        )
    op.create_table(
        "hlink_table",
        *_audited(),
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("alias", sa.String(length=200), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("schema_type", sa.Integer(), nullable=False),
        sa.Column("structure", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("ddl_disabled", sa.Integer(), nullable=False),
        sa.Column("schema_file", sa.Text(), nullable=False),
        sa.Column("columns", sa.JSON(), nullable=False),
        sa.Column("fields", sa.JSON(), nullable=False),
        sa.Column("secrets", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("alias"),
    )
    op.create_index("ix_hlink_table_name", "hlink_table", ["name"])
    op.create_index("ix_hlink_table_role", "hlink_table", ["role"])


def downgrade() -> None:
    op.drop_table("hlink_table")
    op.drop_table("hlink_cluster")
