-- name: insert_budget
INSERT INTO budget (id, key_id, project_id, period, tokens, micros)
VALUES (%(id)s, %(key)s, %(project)s, %(period)s, %(tokens)s, %(micros)s);

-- name: update_budget
UPDATE budget SET tokens = %(tokens)s, micros = %(micros)s WHERE id = %(id)s;

-- name: delete_budget
DELETE FROM budget WHERE id = %(id)s;

-- name: lock_budget
SELECT 1 FROM budget WHERE id = %(id)s FOR UPDATE;

-- name: find_budgets
SELECT id,
       CASE WHEN key_id IS NULL THEN 'project' ELSE 'key' END AS owner,
       coalesce(key_id, project_id) AS owner_id,
       period,
       tokens,
       micros,
       extract(epoch FROM created_at)::bigint AS created_at
FROM budget
WHERE (%(id)s::text IS NULL OR id = %(id)s)
  AND (%(key)s::text IS NULL OR key_id = %(key)s)
  AND (%(project)s::text IS NULL OR project_id = %(project)s)
  AND (%(after)s::text IS NULL OR CASE WHEN %(down)s THEN id < %(after)s ELSE id > %(after)s END)
ORDER BY CASE WHEN %(down)s THEN id END DESC, id
LIMIT %(limit)s;

-- name: spent
SELECT (coalesce(sum(used.tokens), 0))::bigint AS tokens,
       (coalesce(sum(used.micros), 0))::bigint AS micros
FROM (
    SELECT h.tokens_in + h.tokens_out AS tokens, h.micros
    FROM usage_hourly h
    WHERE h.hour >= to_timestamp(%(since)s::bigint / 1000)
      AND (%(until)s::bigint IS NULL OR h.hour < to_timestamp(%(until)s::bigint / 1000))
      AND (%(key)s::text IS NULL OR h.key = %(key)s)
      AND (%(project)s::text IS NULL OR h.project = %(project)s)
    UNION ALL
    SELECT e.tokens, e.micros
    FROM unnest(
        %(times)s::bigint[], %(requests)s::text[], %(tokens)s::bigint[], %(micros)s::bigint[]
    ) AS e (ts_ms, request_id, tokens, micros)
    WHERE NOT EXISTS (
        SELECT FROM usage_event u
        WHERE u.ts = 'epoch'::timestamptz + e.ts_ms * interval '1 millisecond'
          AND u.request_id = e.request_id
    )
) used;
