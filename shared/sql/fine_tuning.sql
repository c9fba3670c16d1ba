-- name: insert_job
INSERT INTO fine_tuning_job (
    id, project_id, key_id, name, model, method, status, training_file, validation_file,
    asked, suffix, seed, metadata, copied_bytes, place
)
VALUES (
    %(id)s, %(project)s, %(key)s, %(name)s, %(model)s, %(method)s, 'validating_files',
    %(training_file)s, %(validation_file)s, %(asked)s, %(suffix)s, %(seed)s, %(metadata)s,
    %(copied)s,
    (SELECT count(*) + 1 FROM fine_tuning_job
     WHERE status IN ('validating_files', 'queued', 'running'))
);

-- name: find_jobs
SELECT id,
       fine_tuning_job.project_id AS project,
       (SELECT organisation_id FROM project WHERE project.id = fine_tuning_job.project_id)
           AS organisation,
       name, model, method, status, training_file, validation_file, asked, plan, suffix, seed,
       metadata, step, steps, fine_tuned_model, trained_tokens, result_file, metrics, error,
       waiting, overtaken,
       CASE WHEN status IN ('validating_files', 'queued') THEN (
           SELECT count(*) FROM fine_tuning_job AS other
           WHERE other.status IN ('validating_files', 'queued', 'running')
             AND (other.status = 'running' OR other.id <= fine_tuning_job.id)
       ) END AS place,
       extract(epoch FROM created_at)::bigint AS created_at,
       extract(epoch FROM finished_at)::bigint AS finished_at,
       extract(epoch FROM estimated_finish)::bigint AS estimated_finish
FROM fine_tuning_job
WHERE (%(id)s::text IS NULL OR id = %(id)s)
  AND (%(project)s::text IS NULL OR project_id = %(project)s)
  AND (%(after)s::text IS NULL OR id < %(after)s)
  AND (%(metadata)s::jsonb IS NULL OR metadata @> %(metadata)s)
  AND (NOT %(plain)s OR metadata = '{}')
ORDER BY id DESC
LIMIT %(limit)s;

-- name: move_job
UPDATE fine_tuning_job
SET status = CASE WHEN %(to)s = 'queued' AND plan IS NULL THEN 'validating_files' ELSE %(to)s END,
    finished_at = CASE WHEN %(to)s = 'cancelled' THEN now() END,
    estimated_finish = NULL, waiting = NULL, aside_until = NULL, place = NULL
WHERE id = %(id)s AND project_id = %(project)s AND status = ANY(%(from)s)
RETURNING status;

-- name: claim_job
UPDATE fine_tuning_job
SET owner = %(owner)s,
    lease_until = now() + make_interval(secs => %(seconds)s),
    fence = fence + 1
WHERE id = (
    SELECT id FROM fine_tuning_job
    WHERE status IN ('validating_files', 'queued', 'running')
      AND (lease_until IS NULL OR lease_until < now())
    ORDER BY coalesce(aside_until > now(), false), status <> 'running', id
    LIMIT 1
    FOR UPDATE SKIP LOCKED
)
RETURNING id, fence, starts, overtaken;

-- name: renew_job
UPDATE fine_tuning_job
SET lease_until = now() + make_interval(secs => %(seconds)s)
WHERE id = %(id)s AND fence = %(fence)s AND owner IS NOT NULL
RETURNING status;

-- name: release_job
UPDATE fine_tuning_job
SET owner = NULL, lease_until = NULL
WHERE id = %(id)s AND fence = %(fence)s;

-- name: release_jobs
UPDATE fine_tuning_job
SET owner = NULL, lease_until = NULL
WHERE owner = %(owner)s;

-- name: plan_job
UPDATE fine_tuning_job
SET plan = %(plan)s,
    status = CASE WHEN asked @> '{"hold": true}' THEN 'paused' ELSE 'queued' END
WHERE id = %(id)s AND fence = %(fence)s AND status IN ('validating_files', 'queued')
RETURNING status;

-- name: run_job
UPDATE fine_tuning_job
SET status = 'running', started_at = coalesce(started_at, now()), starts = starts + 1,
    waiting = NULL, aside_until = NULL, overtaken = 0, place = NULL
WHERE id = %(id)s AND fence = %(fence)s AND status IN ('queued', 'running')
RETURNING status;

-- name: overtake_jobs
UPDATE fine_tuning_job
SET overtaken = overtaken + 1
WHERE id < %(id)s AND waiting IS NOT NULL AND status IN ('validating_files', 'queued')
  AND owner IS NULL;

-- name: tell_waiting
UPDATE fine_tuning_job
SET waiting = %(why)s
WHERE id = %(id)s AND fence = %(fence)s AND status IN ('queued', 'running')
  AND waiting IS DISTINCT FROM %(why)s
RETURNING status;

-- name: aside_job
UPDATE fine_tuning_job
SET status = 'queued', waiting = %(why)s, estimated_finish = NULL,
    aside_until = now() + make_interval(secs => %(seconds)s),
    overtaken = CASE WHEN %(had_its_turn)s THEN 0 ELSE overtaken END
WHERE id = %(id)s AND fence = %(fence)s AND status IN ('queued', 'running')
RETURNING status;

-- name: find_claimable
SELECT 1 FROM fine_tuning_job
WHERE status IN ('validating_files', 'queued', 'running')
  AND id <> %(id)s
  AND (lease_until IS NULL OR lease_until < now())
  AND (aside_until IS NULL OR aside_until < now())
LIMIT 1;

-- name: tell_places
WITH placed AS MATERIALIZED (
    SELECT id, status, owner, row_number() OVER (ORDER BY status <> 'running', id) AS place
    FROM fine_tuning_job
    WHERE status IN ('validating_files', 'queued', 'running')
), known AS (
    SELECT fine_tuning_job.id, fine_tuning_job.place AS before
    FROM fine_tuning_job JOIN placed ON placed.id = fine_tuning_job.id
    WHERE placed.owner IS NULL AND placed.status <> 'running'
      AND fine_tuning_job.place IS DISTINCT FROM placed.place
    FOR UPDATE OF fine_tuning_job
), moved AS (
    UPDATE fine_tuning_job
    SET place = placed.place
    FROM placed JOIN known ON known.id = placed.id
    WHERE fine_tuning_job.id = placed.id
    RETURNING fine_tuning_job.id, fine_tuning_job.place, known.before
)
INSERT INTO fine_tuning_event (job_id, level, type, message, data)
SELECT id, 'info', 'message', 'Place ' || place || ' of those that wait',
       jsonb_build_object('place', place)
FROM moved
WHERE before IS NOT NULL
RETURNING job_id;

-- name: wait_job
UPDATE fine_tuning_job
SET status = 'queued', estimated_finish = NULL
WHERE id = %(id)s AND fence = %(fence)s AND status = 'running'
RETURNING status;

-- name: step_job
UPDATE fine_tuning_job
SET step = %(step)s, steps = %(steps)s, starts = 0,
    estimated_finish = CASE
        WHEN status = 'running' THEN now() + make_interval(secs => %(eta)s)
    END
WHERE id = %(id)s AND fence = %(fence)s AND finished_at IS NULL AND step < %(step)s
RETURNING status;

-- name: fail_job
UPDATE fine_tuning_job
SET status = 'failed', error = %(error)s, finished_at = now(), estimated_finish = NULL,
    waiting = NULL
WHERE id = %(id)s AND fence = %(fence)s AND finished_at IS NULL
RETURNING status;

-- name: succeed_job
UPDATE fine_tuning_job
SET status = 'succeeded',
    fine_tuned_model = %(model)s,
    trained_tokens = %(tokens)s,
    result_file = %(result_file)s,
    metrics = %(metrics)s,
    finished_at = now(),
    estimated_finish = NULL
WHERE id = %(id)s AND fence = %(fence)s AND status = 'running'
RETURNING status;

-- name: lock_fenced_job
UPDATE fine_tuning_job
SET noted = noted + %(count)s
WHERE id = %(id)s AND (%(fence)s::bigint IS NULL OR fence = %(fence)s)
RETURNING noted;

-- name: insert_event
INSERT INTO fine_tuning_event (job_id, level, type, message, data)
VALUES (%(id)s, %(level)s, %(type)s, %(message)s, %(data)s);

-- name: find_events_down
SELECT number, extract(epoch FROM created_at)::bigint AS created_at, level, type, message, data
FROM fine_tuning_event
WHERE job_id = %(job)s AND (%(after)s::bigint IS NULL OR number < %(after)s)
ORDER BY number DESC
LIMIT %(limit)s;

-- name: find_events_up
SELECT number, extract(epoch FROM created_at)::bigint AS created_at, level, type, message, data
FROM fine_tuning_event
WHERE job_id = %(job)s AND number > %(after)s
ORDER BY number
LIMIT %(limit)s;

-- name: insert_checkpoint
INSERT INTO fine_tuning_checkpoint (id, job_id, step, model, metrics)
VALUES (%(id)s, %(job)s, %(step)s, %(model)s, %(metrics)s)
ON CONFLICT (job_id, step) DO NOTHING;

-- name: find_checkpoints
SELECT id, step, model, metrics, extract(epoch FROM created_at)::bigint AS created_at
FROM fine_tuning_checkpoint
WHERE job_id = %(job)s
  AND (%(after)s::text IS NULL
       OR step < (SELECT step FROM fine_tuning_checkpoint WHERE id = %(after)s))
ORDER BY step DESC
LIMIT %(limit)s;

-- name: thin_events
WITH aged AS MATERIALIZED (
    SELECT number, level,
           row_number() OVER (PARTITION BY type ORDER BY number DESC) AS age,
           row_number() OVER (PARTITION BY type ORDER BY number) AS rank,
           count(*) OVER (PARTITION BY type) AS of
    FROM fine_tuning_event
    WHERE job_id = %(job)s
)
DELETE FROM fine_tuning_event
USING aged
WHERE fine_tuning_event.number = aged.number
  AND aged.of > 2 * %(keep)s AND aged.age > %(keep)s AND aged.rank %% 2 = 0
  AND aged.level <> 'error';

-- name: told_thinned
UPDATE fine_tuning_job SET thinned = true WHERE id = %(job)s AND NOT thinned RETURNING id;

-- name: lock_checkpoint_models
SELECT name FROM tuned_model
WHERE job_id = %(job)s AND step IS NOT NULL AND deleted_at IS NULL
ORDER BY name
FOR UPDATE;

-- name: retire_checkpoints
DELETE FROM fine_tuning_checkpoint
WHERE job_id = %(job)s
  AND step NOT IN (
      SELECT step FROM fine_tuning_checkpoint WHERE job_id = %(job)s ORDER BY step DESC
      LIMIT %(keep)s
  )
  AND step NOT IN (
      SELECT step FROM fine_tuning_checkpoint
      WHERE job_id = %(job)s AND metrics ? 'valid_loss'
      ORDER BY (metrics ->> 'valid_loss')::double precision, step DESC
      LIMIT 1
  )
  AND model NOT IN (SELECT target FROM model_alias)
  AND model NOT IN (SELECT canary FROM model_alias WHERE canary IS NOT NULL)
  AND model NOT IN (SELECT previous FROM model_alias WHERE previous IS NOT NULL)
RETURNING model;

-- name: find_ended_jobs
SELECT id FROM fine_tuning_job
WHERE id = ANY(%(ids)s) AND finished_at IS NOT NULL AND owner IS NULL;

-- name: count_open_jobs
SELECT count(*) AS open FROM fine_tuning_job
WHERE project_id = %(project)s AND finished_at IS NULL;

-- name: count_jobs_before
SELECT count(*) AS waiting FROM fine_tuning_job
WHERE id < %(id)s AND status IN ('validating_files', 'queued', 'running');
