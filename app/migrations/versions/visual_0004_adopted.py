"""Jobs whose graph was found by another job know which one."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "visual_0004"
down_revision = "visual_0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("visual_job") as job:
        job.add_column(sa.Column("origin", sa.String(length=100), nullable=True))
        job.create_index("ix_visual_job_origin", ["origin"])


def downgrade() -> None:
    with op.batch_alter_table("visual_job") as job:
        job.drop_index("ix_visual_job_origin")
        job.drop_column("origin")
