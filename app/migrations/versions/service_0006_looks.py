"""Looks at places, and the revision of a run."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "service_0006"
down_revision = "service_0005"
branch_labels = None
depends_on = None

_ACTIVE = sa.text("ended_at IS NULL")


def upgrade() -> None:
    op.create_table(
        "look",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("owner", sa.String(length=64), nullable=False),
        sa.Column("place", sa.String(length=512), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("owner", "place"),
    )
    with op.batch_alter_table("run") as run:
        run.add_column(sa.Column("look_id", sa.BigInteger(), nullable=True))
        run.add_column(sa.Column("revision", sa.BigInteger(), server_default="0", nullable=False))
        run.drop_index("active_runs")
        run.create_index("active_runs", ["lease_owner"], sqlite_where=_ACTIVE, postgresql_where=_ACTIVE)


def downgrade() -> None:
    with op.batch_alter_table("run") as run:
        run.drop_index("active_runs")
        run.create_index("active_runs", ["lease_until"], sqlite_where=_ACTIVE, postgresql_where=_ACTIVE)
        run.drop_column("revision")
        run.drop_column("look_id")
    op.drop_table("look")
