"""Jobs that wait for room: for what, in which place, and how often others came before"""

from __future__ import annotations

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

COLUMNS = {
    "waiting": "text",
    "aside_until": "timestamptz",
    "overtaken": "integer NOT NULL DEFAULT 0",
    "place": "integer",
}


def upgrade() -> None:
    for name, kind in COLUMNS.items():
        op.execute(f"ALTER TABLE fine_tuning_job ADD COLUMN {name} {kind}")


def downgrade() -> None:
    for name in COLUMNS:
        op.execute(f"ALTER TABLE fine_tuning_job DROP COLUMN {name}")
