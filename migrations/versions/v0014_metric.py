"""Metrics of fine-tuning by step, beside the events, which are thinned; bytes that jobs copied"""

from __future__ import annotations

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

METRIC = """
CREATE TABLE fine_tuning_metric (
    job_id text NOT NULL REFERENCES fine_tuning_job ON DELETE CASCADE,
    step integer NOT NULL,
    train_loss double precision,
    train_accuracy double precision,
    valid_loss double precision,
    valid_accuracy double precision,
    PRIMARY KEY (job_id, step)
);
INSERT INTO fine_tuning_metric
SELECT job_id, (data ->> 'step')::integer,
       max((data ->> 'train_loss')::double precision),
       max((data ->> 'train_mean_token_accuracy')::double precision),
       max((data ->> 'valid_loss')::double precision),
       max((data ->> 'valid_mean_token_accuracy')::double precision)
FROM fine_tuning_event
WHERE type = 'metrics' AND jsonb_typeof(data -> 'step') = 'number'
GROUP BY 1, 2;
ALTER TABLE fine_tuning_job
    ADD COLUMN noted integer NOT NULL DEFAULT 0,
    ADD COLUMN thinned boolean NOT NULL DEFAULT false,
    ADD COLUMN copied_bytes bigint NOT NULL DEFAULT 0;
"""


def upgrade() -> None:
    op.execute(METRIC)


def downgrade() -> None:
    op.execute("DROP TABLE fine_tuning_metric")
    for name in ("noted", "thinned", "copied_bytes"):
        op.execute(f"ALTER TABLE fine_tuning_job DROP COLUMN {name}")
