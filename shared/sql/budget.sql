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
