"""Savepoints, and runs that go on from another."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "service_0002"
down_revision = "service_0001"
branch_labels = None
depends_on = None

_UNSETTLED = sa.text("verified_at IS NULL AND state <> 'FAILED'")


def upgrade() -> None:
    with op.batch_alter_table("run") as run:
        run.add_column(sa.Column("successor", sa.JSON(none_as_null=True), nullable=True))
        run.add_column(sa.Column("predecessor_id", sa.BigInteger(), nullable=True))
        run.add_column(sa.Column("checkpoint_at", sa.BigInteger(), nullable=True))
    op.create_table(
        "savepoint",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("run_id", sa.BigInteger(), nullable=False),
        sa.Column("subject", sa.String(length=128), nullable=False),
        sa.Column("token", sa.String(length=32), nullable=False),
        sa.Column("purpose", sa.String(length=16), nullable=False),
        sa.Column("native", sa.Boolean(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("path", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("requested_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("verified", sa.Boolean(), nullable=True),
        sa.Column("verified_at", sa.BigInteger(), nullable=True),
        sa.Column("size", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("token"),
    )
    op.create_index("savepoints_of_subject", "savepoint", ["subject", "id"])
    op.create_index(
        "unsettled_savepoints", "savepoint", ["run_id"], sqlite_where=_UNSETTLED, postgresql_where=_UNSETTLED
    )


def downgrade() -> None:
    op.drop_table("savepoint")
    with op.batch_alter_table("run") as run:
        run.drop_column("checkpoint_at")
        run.drop_column("predecessor_id")
        run.drop_column("successor")
