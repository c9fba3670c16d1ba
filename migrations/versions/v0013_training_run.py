"""Runs of fine-tuning as they were measured"""

from __future__ import annotations

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

RUN = """
CREATE TABLE training_run (
    device text NOT NULL,
    base text NOT NULL,
    weights bigint NOT NULL CHECK (weights >= 0),
    method text NOT NULL,
    quantise text NOT NULL,
    dtype text NOT NULL,
    checkpointing boolean NOT NULL,
    rank integer NOT NULL CHECK (rank > 0),
    batch integer NOT NULL CHECK (batch > 0),
    length integer NOT NULL CHECK (length > 0),
    peak bigint NOT NULL CHECK (peak > 0),
    tokens_per_second double precision NOT NULL CHECK (tokens_per_second >= 0),
    work double precision NOT NULL CHECK (work >= 0),
    around double precision NOT NULL CHECK (around >= 0),
    short boolean NOT NULL,
    measured_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (
        device, base, weights, method, quantise, dtype, checkpointing, rank, batch, length
    )
)
"""


def upgrade() -> None:
    op.execute(RUN)


def downgrade() -> None:
    op.execute("DROP TABLE training_run")
