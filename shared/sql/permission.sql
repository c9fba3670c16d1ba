-- name: lock_shared_model
SELECT project_id AS project FROM tuned_model
WHERE name = %(model)s AND deleted_at IS NULL
FOR SHARE;

-- name: find_grantees
SELECT id FROM project
WHERE id = ANY(%(projects)s) AND archived_at IS NULL
  AND organisation_id = (SELECT organisation_id FROM project WHERE id = %(owner)s);

-- name: insert_permission
INSERT INTO checkpoint_permission (id, model, project_id)
VALUES (%(id)s, %(model)s, %(project)s)
ON CONFLICT (model, project_id) DO NOTHING;

-- name: find_permissions
SELECT id, project_id, extract(epoch FROM created_at)::bigint AS created_at
FROM checkpoint_permission
WHERE model = %(model)s
  AND (%(id)s::text IS NULL OR id = %(id)s)
  AND (%(projects)s::text[] IS NULL OR project_id = ANY(%(projects)s))
  AND (%(after)s::text IS NULL OR CASE WHEN %(down)s THEN id < %(after)s ELSE id > %(after)s END)
ORDER BY CASE WHEN %(down)s THEN id END DESC, id
LIMIT %(limit)s;

-- name: delete_permission
DELETE FROM checkpoint_permission WHERE id = %(id)s AND model = %(model)s RETURNING id;
