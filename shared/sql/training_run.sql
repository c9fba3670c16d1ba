-- name: record_training_run
INSERT INTO training_run (
    device, base, weights, method, quantise, dtype, checkpointing, rank, batch, length,
    peak, tokens_per_second, work, around, short
)
VALUES (
    %(device)s, %(base)s, %(weights)s, %(method)s, %(quantise)s, %(dtype)s, %(checkpointing)s,
    %(rank)s, %(batch)s, %(length)s,
    %(peak)s, %(tokens_per_second)s, %(work)s, %(around)s, %(short)s
)
ON CONFLICT (
    device, base, weights, method, quantise, dtype, checkpointing, rank, batch, length
) DO UPDATE
SET peak = excluded.peak,
    tokens_per_second = excluded.tokens_per_second,
    work = excluded.work,
    around = excluded.around,
    short = excluded.short,
    measured_at = now();

-- name: find_training_runs
SELECT device, base, weights, method, quantise, dtype, checkpointing, rank, batch, length,
       peak, tokens_per_second, work, around, short
FROM training_run
WHERE device = %(device)s
ORDER BY measured_at DESC
LIMIT %(limit)s;
