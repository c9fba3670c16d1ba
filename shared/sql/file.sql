-- name: insert_file
INSERT INTO file (id, project_id, filename, purpose, bytes, expires_at)
VALUES (
    %(id)s, %(project)s, %(filename)s, %(purpose)s, %(bytes)s,
    now() + make_interval(secs => %(seconds)s)
)
RETURNING id, bytes, filename, purpose,
          extract(epoch FROM created_at)::bigint AS created_at,
          extract(epoch FROM expires_at)::bigint AS expires_at;

-- name: find_files
SELECT id, bytes, filename, purpose,
       extract(epoch FROM created_at)::bigint AS created_at,
       extract(epoch FROM expires_at)::bigint AS expires_at
FROM file
WHERE project_id = %(project)s
  AND (%(id)s::text IS NULL OR id = %(id)s)
  AND (%(purpose)s::text IS NULL OR purpose = %(purpose)s)
  AND (expires_at IS NULL OR expires_at > now())
  AND (%(after)s::text IS NULL OR CASE WHEN %(down)s THEN id < %(after)s ELSE id > %(after)s END)
ORDER BY CASE WHEN %(down)s THEN id END DESC, id
LIMIT %(limit)s;

-- name: delete_file
DELETE FROM file WHERE id = %(id)s AND project_id = %(project)s;

-- name: delete_expired_files
DELETE FROM file
WHERE id IN (
    SELECT id FROM file WHERE expires_at <= now() LIMIT %(limit)s FOR UPDATE SKIP LOCKED
)
RETURNING id;
