"""Tuned models that other projects than their own may use"""

from __future__ import annotations

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

PERMISSION = """
CREATE TABLE checkpoint_permission (
    id text PRIMARY KEY,
    model text NOT NULL REFERENCES tuned_model,
    project_id text NOT NULL REFERENCES project,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (model, project_id)
);
"""


def upgrade() -> None:
    op.execute(PERMISSION)


def downgrade() -> None:
    op.execute("DROP TABLE checkpoint_permission")
