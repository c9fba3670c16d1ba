"""Bytes that were too few for a start of a model"""

from __future__ import annotations

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

SHORTFALL = """
CREATE TABLE shortfall (
    device text NOT NULL,
    model text NOT NULL,
    engine text NOT NULL,
    context integer NOT NULL CHECK (context > 0),
    parallel integer NOT NULL CHECK (parallel > 0),
    weights_bytes bigint NOT NULL CHECK (weights_bytes >= 0),
    least_bytes bigint NOT NULL CHECK (least_bytes > 0),
    noted_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (device, model, engine, context, parallel)
)
"""


def upgrade() -> None:
    op.execute(SHORTFALL)


def downgrade() -> None:
    op.execute("DROP TABLE shortfall")
