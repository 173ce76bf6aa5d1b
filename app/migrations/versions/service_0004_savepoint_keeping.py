"""Savepoints that are removed and that are made by the clock; stops in a format, and the downtime of a restart."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "service_0004"
down_revision = "service_0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("run") as run:
        run.add_column(sa.Column("stop_native", sa.Boolean(), server_default=sa.false(), nullable=False))
        run.add_column(sa.Column("stop_requested_at", sa.BigInteger(), nullable=True))
        run.add_column(sa.Column("down_ms", sa.BigInteger(), nullable=True))
    with op.batch_alter_table("savepoint") as savepoint:
        savepoint.add_column(sa.Column("drained", sa.Boolean(), server_default=sa.false(), nullable=False))
        savepoint.add_column(sa.Column("checkpoint_id", sa.BigInteger(), nullable=True))
        savepoint.add_column(sa.Column("made_with", sa.String(length=32), nullable=True))
        savepoint.add_column(sa.Column("removal", sa.Text(), nullable=True))
        savepoint.add_column(sa.Column("removal_attempts", sa.Integer(), server_default="0", nullable=False))
        savepoint.add_column(sa.Column("removal_attempted_at", sa.BigInteger(), nullable=True))
        savepoint.add_column(sa.Column("removed_at", sa.BigInteger(), nullable=True))
    op.create_index("savepoints_in_state", "savepoint", ["state", "subject"])
    op.create_table(
        "savepoint_schedule",
        sa.Column("subject", sa.String(length=128), nullable=False),
        sa.Column("cron", sa.String(length=128), nullable=False),
        sa.Column("time_zone", sa.String(length=64), nullable=False),
        sa.Column("native", sa.Boolean(), nullable=False),
        sa.Column("next_at", sa.BigInteger(), nullable=False),
        sa.Column("fired_at", sa.BigInteger(), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("subject"),
    )
    op.create_index("ix_savepoint_schedule_next_at", "savepoint_schedule", ["next_at"])
    op.create_table(
        "savepoint_retention",
        sa.Column("subject", sa.String(length=128), nullable=False),
        sa.Column("most", sa.Integer(), nullable=False),
        sa.Column("days", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("subject"),
    )


def downgrade() -> None:
    op.drop_table("savepoint_retention")
    op.drop_table("savepoint_schedule")
    op.drop_index("savepoints_in_state", "savepoint")
    with op.batch_alter_table("savepoint") as savepoint:
        for name in (
            *("drained", "checkpoint_id", "made_with"),
            *("removal", "removal_attempts", "removal_attempted_at", "removed_at"),
        ):
            savepoint.drop_column(name)
    with op.batch_alter_table("run") as run:
        for name in ("stop_native", "stop_requested_at", "down_ms"):
            run.drop_column(name)
