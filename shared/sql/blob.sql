-- name: lock_room
SELECT coalesce(file_bytes, %(quota)s) AS quota
FROM project
WHERE id = %(project)s
FOR NO KEY UPDATE;

-- name: find_room
SELECT (coalesce(sum(bytes), 0) + (
           SELECT coalesce(sum(copied_bytes), 0) FROM fine_tuning_job
           WHERE project_id = %(project)s AND finished_at IS NULL
       ))::bigint AS bytes,
       count(*) AS blobs
FROM blob
WHERE project_id = %(project)s AND id <> %(id)s;

-- name: put_blob
INSERT INTO blob (id, project_id, bytes, lease_until)
VALUES (%(id)s, %(project)s, %(bytes)s, now() + make_interval(secs => %(lease)s));

-- name: grow_blob
UPDATE blob
SET bytes = %(bytes)s, lease_until = now() + make_interval(secs => %(lease)s)
WHERE id = %(id)s AND lease_until IS NOT NULL
RETURNING id;

-- name: renew_blob
UPDATE blob SET lease_until = now() + make_interval(secs => %(lease)s)
WHERE id = %(id)s AND lease_until IS NOT NULL
RETURNING id;

-- name: release_blob
UPDATE blob
SET lease_until = CASE WHEN lease_until IS NULL THEN NULL ELSE now() END
WHERE id = %(id)s;

-- name: keep_blob
UPDATE blob
SET bytes = %(bytes)s, file_id = %(file)s, upload_id = %(upload)s, lease_until = NULL
WHERE id = %(id)s AND lease_until IS NOT NULL
RETURNING id;

-- name: find_blobs
SELECT id, bytes FROM blob WHERE file_id = %(file)s ORDER BY position;

-- name: find_loose
SELECT id
FROM blob
WHERE file_id IS NULL AND upload_id IS NULL AND (lease_until IS NULL OR lease_until <= now())
LIMIT %(limit)s
FOR UPDATE SKIP LOCKED;

-- name: delete_blobs
DELETE FROM blob WHERE id = ANY (%(ids)s);
