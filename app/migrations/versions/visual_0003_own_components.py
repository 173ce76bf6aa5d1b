"""Components of somebody's own."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "visual_0003"
down_revision = "visual_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "visual_component",
        sa.Column("create_by", sa.String(length=128), nullable=False),
        sa.Column("create_time", sa.BigInteger(), nullable=False),
        sa.Column("modify_by", sa.String(length=128), nullable=False),
        sa.Column("modify_time", sa.BigInteger(), nullable=False),
        sa.Column("del_flag", sa.Integer(), nullable=False),
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("uuid", sa.String(length=200), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("file_name", sa.String(length=200), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("declared", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    kept = sa.text("del_flag = 1")
    op.create_index(
        "visual_component_uuid", "visual_component", ["uuid"], unique=True, sqlite_where=kept, postgresql_where=kept
    )


def downgrade() -> None:
    op.drop_table("visual_component")
