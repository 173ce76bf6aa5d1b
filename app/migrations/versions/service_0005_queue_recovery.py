"""Runs that queue for slots, and runs that stand in for lost ones."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "service_0005"
down_revision = "service_0004"
branch_labels = None
depends_on = None

_QUEUE = sa.text("ended_at IS NULL AND slots IS NOT NULL")
_LOOK_AGAIN = sa.text("look_again_at IS NOT NULL")


def upgrade() -> None:
    with op.batch_alter_table("run") as run:
        run.add_column(sa.Column("place", sa.String(length=512), nullable=True))
        run.add_column(sa.Column("slots", sa.Integer(), nullable=True))
        run.add_column(sa.Column("priority", sa.Integer(), server_default="0", nullable=False))
        run.add_column(sa.Column("queued_at", sa.BigInteger(), nullable=True))
        run.add_column(sa.Column("recovery", sa.Integer(), nullable=True))
        run.add_column(sa.Column("not_before", sa.BigInteger(), nullable=True))
        run.add_column(sa.Column("latest_savepoint", sa.Text(), nullable=True))
        run.add_column(sa.Column("look_again_at", sa.BigInteger(), nullable=True))
    op.create_index("queue_of_place", "run", ["place", "started_at"], sqlite_where=_QUEUE, postgresql_where=_QUEUE)
    op.create_index(
        "runs_to_look_at_again", "run", ["look_again_at"], sqlite_where=_LOOK_AGAIN, postgresql_where=_LOOK_AGAIN
    )
    # What runs already holds slots that a restart may count on.
    active = sa.table(
        "run",
        sa.column("spec", sa.JSON),
        sa.column("place", sa.String),
        sa.column("slots", sa.Integer),
        sa.column("ended_at", sa.BigInteger),
    )
    op.execute(
        active.update()
        .where(active.c.ended_at.is_(None))
        .values(place=active.c.spec["flink_url"].as_string(), slots=active.c.spec["slots"].as_integer())
    )


def downgrade() -> None:
    op.drop_index("runs_to_look_at_again", "run")
    op.drop_index("queue_of_place", "run")
    with op.batch_alter_table("run") as run:
        for column in (
            "look_again_at", "latest_savepoint", "not_before", "recovery", "queued_at", "priority", "slots", "place"
        ):  # fmt: skip
            run.drop_column(column)
