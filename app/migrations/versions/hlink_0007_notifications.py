"""Who is told of troubles with jobs, the troubles, and what is to be sent."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "hlink_0007"
down_revision = "hlink_0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "hlink_notification_target",
        sa.Column("create_by", sa.String(length=128), nullable=False),
        sa.Column("create_time", sa.BigInteger(), nullable=False),
        sa.Column("modify_by", sa.String(length=128), nullable=False),
        sa.Column("modify_time", sa.BigInteger(), nullable=False),
        sa.Column("del_flag", sa.Integer(), nullable=False),
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("secret", sa.Text(), nullable=True),
        sa.Column("shown", sa.String(length=2000), nullable=False),
        sa.Column("kinds", sa.JSON(), nullable=False),
        sa.Column("jobs", sa.JSON(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    kept = sa.text("del_flag <> -1")
    op.create_index(
        "hlink_notification_target_name",
        "hlink_notification_target",
        ["name"],
        unique=True,
        sqlite_where=kept,
        postgresql_where=kept,
    )
    op.create_table(
        "hlink_trouble",
        sa.Column("job_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("run_id", sa.BigInteger(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("told_at", sa.BigInteger(), nullable=True),
        sa.Column("over_at", sa.BigInteger(), nullable=True),
        sa.Column("restarts", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "kind"),
    )
    op.create_table(
        "hlink_notification",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("target_id", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("job_ids", sa.JSON(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=32), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_at", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["target_id"], ["hlink_notification_target.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    pending = sa.text("state = 'PENDING'")
    op.create_index(
        "hlink_notification_due",
        "hlink_notification",
        ["next_at"],
        sqlite_where=pending,
        postgresql_where=pending,
    )
    op.create_table(
        "hlink_event_cursor",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("event_id", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "hlink_read_event",
        sa.Column("event_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("event_id"),
    )


def downgrade() -> None:
    for table in (
        "hlink_read_event",
        "hlink_event_cursor",
        "hlink_notification",
        "hlink_trouble",
        "hlink_notification_target",
    ):
        op.drop_table(table)
