"""The file with a job's metrics by step"""

from __future__ import annotations

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE fine_tuning_job ADD COLUMN result_file text")


def downgrade() -> None:
    op.execute("ALTER TABLE fine_tuning_job DROP COLUMN result_file")
