"""Measured sizes of loaded models"""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

FOOTPRINT = """
CREATE TABLE footprint (
    device text NOT NULL,
    model text NOT NULL,
    engine text NOT NULL,
    context integer NOT NULL CHECK (context > 0),
    parallel integer NOT NULL CHECK (parallel > 0),
    weights_bytes bigint NOT NULL CHECK (weights_bytes >= 0),
    adapters_bytes bigint NOT NULL CHECK (adapters_bytes >= 0),
    loaded_bytes bigint NOT NULL CHECK (loaded_bytes > 0),
    peak_bytes bigint NOT NULL CHECK (peak_bytes >= loaded_bytes),
    requests bigint NOT NULL CHECK (requests >= 0),
    measured_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (device, model, engine, context, parallel)
)
"""


def upgrade() -> None:
    op.execute(FOOTPRINT)


def downgrade() -> None:
    op.execute("DROP TABLE footprint")
