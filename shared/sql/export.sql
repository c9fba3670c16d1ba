-- name: insert_export
INSERT INTO model_export (id, project_id, model, format, quantisation)
VALUES (%(id)s, %(project)s, %(model)s, %(format)s, %(quantisation)s);

-- name: find_exports
SELECT id, model, format, quantisation, status, file_id, bytes, error,
       extract(epoch FROM created_at)::bigint AS created_at,
       extract(epoch FROM finished_at)::bigint AS finished_at
FROM model_export
WHERE project_id = %(project)s
  AND (%(id)s::text IS NULL OR id = %(id)s)
  AND (%(after)s::text IS NULL OR id < %(after)s)
ORDER BY id DESC
LIMIT %(limit)s;

-- name: count_open_exports
SELECT count(*) AS open FROM model_export
WHERE project_id = %(project)s AND finished_at IS NULL;

-- name: delete_export
DELETE FROM model_export WHERE id = %(id)s AND project_id = %(project)s RETURNING id;

-- name: find_export_source
SELECT path, base, coalesce(plan, '{}') AS plan
FROM tuned_model JOIN fine_tuning_job ON fine_tuning_job.id = tuned_model.job_id
WHERE tuned_model.name = %(model)s AND tuned_model.project_id = %(project)s AND deleted_at IS NULL
FOR SHARE OF tuned_model;

-- name: claim_export
UPDATE model_export
SET status = 'running',
    owner = %(owner)s,
    lease_until = now() + make_interval(secs => %(seconds)s),
    fence = fence + 1,
    starts = starts + 1
WHERE id = (
    SELECT id FROM model_export
    WHERE finished_at IS NULL AND (lease_until IS NULL OR lease_until < now())
    ORDER BY id
    LIMIT 1
    FOR UPDATE SKIP LOCKED
)
RETURNING id, project_id AS project, model, format, quantisation, fence, starts;

-- name: renew_export
UPDATE model_export
SET lease_until = now() + make_interval(secs => %(seconds)s)
WHERE id = %(id)s AND fence = %(fence)s AND owner IS NOT NULL
RETURNING id;

-- name: release_export
UPDATE model_export
SET status = 'queued', owner = NULL, lease_until = NULL, starts = starts - %(unused)s::integer
WHERE id = %(id)s AND fence = %(fence)s AND finished_at IS NULL;

-- name: release_exports
UPDATE model_export
SET status = 'queued', owner = NULL, lease_until = NULL
WHERE owner = %(owner)s AND finished_at IS NULL;

-- name: succeed_export
UPDATE model_export
SET status = 'succeeded', owner = NULL, lease_until = NULL, finished_at = now(),
    file_id = %(file)s, bytes = %(bytes)s
WHERE id = %(id)s AND fence = %(fence)s AND finished_at IS NULL
RETURNING id;

-- name: fail_export
UPDATE model_export
SET status = 'failed', owner = NULL, lease_until = NULL, finished_at = now(), error = %(error)s
WHERE id = %(id)s AND fence = %(fence)s AND finished_at IS NULL
RETURNING id;
