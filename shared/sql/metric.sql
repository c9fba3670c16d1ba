-- name: put_metric
INSERT INTO fine_tuning_metric AS known (
    job_id, step, train_loss, train_accuracy, valid_loss, valid_accuracy
)
VALUES (
    %(job)s, %(step)s, %(train_loss)s, %(train_accuracy)s, %(valid_loss)s, %(valid_accuracy)s
)
ON CONFLICT (job_id, step) DO UPDATE
SET train_loss = coalesce(excluded.train_loss, known.train_loss),
    train_accuracy = coalesce(excluded.train_accuracy, known.train_accuracy),
    valid_loss = coalesce(excluded.valid_loss, known.valid_loss),
    valid_accuracy = coalesce(excluded.valid_accuracy, known.valid_accuracy);

-- name: find_metrics
SELECT step, train_loss, train_accuracy, valid_loss, valid_accuracy
FROM fine_tuning_metric
WHERE job_id = %(job)s AND step > %(after)s
ORDER BY step
LIMIT %(limit)s;

-- name: thin_metrics
WITH known AS MATERIALIZED (
    SELECT greatest(1, (count(*) + %(most)s - 1) / %(most)s) AS every, max(step) AS last
    FROM fine_tuning_metric
    WHERE job_id = %(job)s
)
DELETE FROM fine_tuning_metric
USING known
WHERE job_id = %(job)s AND step %% every <> 0 AND step NOT IN (1, last) AND valid_loss IS NULL;

-- name: find_curve
WITH point AS MATERIALIZED (
    SELECT step, 'train_loss' AS name, train_loss AS loss FROM fine_tuning_metric
    WHERE job_id = %(job)s AND train_loss IS NOT NULL
    UNION ALL
    SELECT step, 'valid_loss', valid_loss FROM fine_tuning_metric
    WHERE job_id = %(job)s AND valid_loss IS NOT NULL
), ranked AS (
    SELECT step, name, loss,
           row_number() OVER (PARTITION BY name ORDER BY step) - 1 AS rank,
           count(*) OVER (PARTITION BY name) AS of
    FROM point
)
SELECT step, name, loss FROM ranked
WHERE rank %% ((of + %(most)s - 1) / %(most)s) = 0 OR rank = of - 1
ORDER BY name, step;
