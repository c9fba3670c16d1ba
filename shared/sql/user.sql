-- name: insert_user
INSERT INTO app_user (id, organisation_id, email, name, role)
VALUES (%(id)s, %(organisation)s, %(email)s, %(name)s, %(role)s);

-- name: update_user
UPDATE app_user SET name = %(name)s, role = %(role)s WHERE id = %(id)s;

-- name: delete_user
DELETE FROM app_user WHERE id = %(id)s;

-- name: lock_user
SELECT 1 FROM app_user WHERE id = %(id)s FOR UPDATE;

-- name: find_users
SELECT id, name, email, role, extract(epoch FROM created_at)::bigint AS added_at
FROM app_user
WHERE (%(id)s::text IS NULL OR id = %(id)s)
  AND (%(emails)s::text[] IS NULL OR lower(email) = ANY (%(emails)s))
  AND (%(after)s::text IS NULL OR CASE WHEN %(down)s THEN id < %(after)s ELSE id > %(after)s END)
ORDER BY CASE WHEN %(down)s THEN id END DESC, id
LIMIT %(limit)s;

-- name: insert_member
INSERT INTO membership (project_id, user_id, role)
VALUES (%(project)s, %(user)s, %(role)s);

-- name: update_member
UPDATE membership SET role = %(role)s WHERE project_id = %(project)s AND user_id = %(user)s;

-- name: delete_member
DELETE FROM membership WHERE project_id = %(project)s AND user_id = %(user)s;

-- name: lock_member
SELECT 1 FROM membership WHERE project_id = %(project)s AND user_id = %(user)s FOR UPDATE;

-- name: find_members
SELECT u.id, u.name, u.email, m.role, extract(epoch FROM m.created_at)::bigint AS added_at
FROM membership m
JOIN app_user u ON u.id = m.user_id
WHERE m.project_id = %(project)s
  AND (%(id)s::text IS NULL OR u.id = %(id)s)
  AND (%(after)s::text IS NULL OR CASE WHEN %(down)s THEN u.id < %(after)s ELSE u.id > %(after)s END)
ORDER BY CASE WHEN %(down)s THEN u.id END DESC, u.id
LIMIT %(limit)s;
