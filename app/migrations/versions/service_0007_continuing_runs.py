"""Which runs go on with the slots of another."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "service_0007"
down_revision = "service_0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("run") as run:
        run.add_column(sa.Column("continues", sa.Boolean(), server_default=sa.false(), nullable=False))


def downgrade() -> None:
    with op.batch_alter_table("run") as run:
        run.drop_column("continues")
