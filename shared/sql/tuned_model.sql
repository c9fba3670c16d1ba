-- name: insert_tuned_model
INSERT INTO tuned_model (name, project_id, base, job_id, step, path, bytes)
SELECT %(name)s, project_id, %(base)s, id, %(step)s, %(path)s, %(bytes)s
FROM fine_tuning_job WHERE id = %(job)s
ON CONFLICT (name) DO NOTHING
RETURNING name;

-- name: know_tuned_model
SELECT 1 FROM tuned_model WHERE name = %(name)s;

-- name: find_tuned_models
SELECT name, project_id AS project, base, job_id AS job, path, bytes,
       coalesce((
           SELECT array_agg(checkpoint_permission.project_id) FROM checkpoint_permission
           WHERE model = tuned_model.name
       ), '{}') AS shared,
       extract(epoch FROM created_at)::bigint AS created_at
FROM tuned_model
WHERE deleted_at IS NULL
ORDER BY created_at, name
LIMIT %(limit)s;

-- name: delete_tuned_model
UPDATE tuned_model
SET deleted_at = now()
WHERE name = %(name)s AND project_id = %(project)s AND deleted_at IS NULL
RETURNING name;

-- name: aliases_of_model
SELECT name FROM model_alias
WHERE %(model)s IN (target, canary)
ORDER BY name;

-- name: tuned_model_paths
SELECT path FROM tuned_model WHERE job_id = %(job)s AND removed_at IS NULL;

-- name: find_deleted_models
SELECT name, path FROM tuned_model AS gone
WHERE deleted_at IS NOT NULL AND removed_at IS NULL
  AND NOT EXISTS (
      SELECT FROM tuned_model AS left_over
      WHERE left_over.job_id = gone.job_id
        AND left_over.step IS NOT DISTINCT FROM gone.step
        AND left_over.deleted_at IS NULL
  )
LIMIT 100;

-- name: removed_tuned_model
UPDATE tuned_model SET removed_at = now() WHERE name = %(name)s;

-- name: find_aliases
SELECT name, project_id AS project, target, previous, canary, share,
       extract(epoch FROM created_at)::bigint AS created_at,
       extract(epoch FROM changed_at)::bigint AS changed_at
FROM model_alias
WHERE (%(project)s::text IS NULL OR project_id = %(project)s)
  AND (%(name)s::text IS NULL OR name = %(name)s)
ORDER BY name
LIMIT %(limit)s;

-- name: put_alias
INSERT INTO model_alias (name, project_id, target, canary, share)
VALUES (%(name)s, %(project)s, %(target)s, %(canary)s, %(share)s)
ON CONFLICT (name) DO UPDATE
SET target = excluded.target,
    previous = CASE
        WHEN model_alias.target <> excluded.target THEN model_alias.target
        ELSE model_alias.previous
    END,
    canary = excluded.canary,
    share = excluded.share,
    changed_at = now()
WHERE model_alias.project_id = excluded.project_id
RETURNING name;

-- name: lock_alias
SELECT 1 FROM model_alias WHERE name = %(name)s AND project_id = %(project)s FOR UPDATE;

-- name: delete_alias
DELETE FROM model_alias WHERE name = %(name)s AND project_id = %(project)s RETURNING name;

-- name: lock_tuned_model
SELECT base FROM tuned_model
WHERE name = %(name)s AND project_id = %(project)s AND deleted_at IS NULL
FOR SHARE;
