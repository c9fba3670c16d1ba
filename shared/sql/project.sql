-- name: insert_project
INSERT INTO project (
    id, organisation_id, name, requests_per_minute, tokens_per_minute, concurrent, cache, file_bytes
)
VALUES (
    %(id)s, %(organisation)s, %(name)s,
    %(requests_per_minute)s, %(tokens_per_minute)s, %(concurrent)s, %(cache)s, %(file_bytes)s
);

-- name: update_project
UPDATE project
SET name = %(name)s,
    requests_per_minute = %(requests_per_minute)s,
    tokens_per_minute = %(tokens_per_minute)s,
    concurrent = %(concurrent)s,
    cache = %(cache)s,
    file_bytes = %(file_bytes)s
WHERE id = %(id)s;

-- name: archive_project
UPDATE project SET archived_at = now() WHERE id = %(id)s;

-- name: lock_project
SELECT 1 FROM project WHERE id = %(id)s FOR UPDATE;

-- name: find_projects
SELECT id,
       name,
       extract(epoch FROM created_at)::bigint AS created_at,
       extract(epoch FROM archived_at)::bigint AS archived_at,
       jsonb_build_object(
           'requests_per_minute', requests_per_minute,
           'tokens_per_minute', tokens_per_minute,
           'concurrent', concurrent
       ) AS limits,
       cache,
       file_bytes,
       CASE WHEN archived_at IS NULL THEN 'active' ELSE 'archived' END AS status
FROM project
WHERE (%(id)s::text IS NULL OR id = %(id)s)
  AND (%(archived)s OR archived_at IS NULL)
  AND (%(after)s::text IS NULL OR CASE WHEN %(down)s THEN id < %(after)s ELSE id > %(after)s END)
ORDER BY CASE WHEN %(down)s THEN id END DESC, id
LIMIT %(limit)s;
