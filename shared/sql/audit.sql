-- name: insert_audit
INSERT INTO audit (id, action, actor_key, session, target, project_id, before, after, request_id)
VALUES (
    %(id)s, %(action)s, %(actor_key)s, %(session)s, %(target)s, %(project)s,
    %(before)s, %(after)s, %(request_id)s
);

-- name: find_audit
SELECT a.id,
       extract(epoch FROM a.at)::bigint AS at,
       a.action,
       a.actor_key,
       a.session,
       a.target,
       a.project_id AS project,
       p.name AS project_name,
       a.before,
       a.after,
       a.request_id
FROM audit a
LEFT JOIN project p ON p.id = a.project_id
WHERE (%(actions)s::text[] IS NULL OR a.action = ANY (%(actions)s))
  AND (%(projects)s::text[] IS NULL OR a.project_id = ANY (%(projects)s))
  AND (%(actors)s::text[] IS NULL OR a.actor_key = ANY (%(actors)s))
  AND (%(targets)s::text[] IS NULL OR a.target = ANY (%(targets)s))
  AND (%(since)s::bigint IS NULL OR a.at >= to_timestamp(%(since)s))
  AND (%(until)s::bigint IS NULL OR a.at < to_timestamp(%(until)s))
  AND (%(after)s::text IS NULL OR a.id < %(after)s)
  AND (%(before)s::text IS NULL OR a.id > %(before)s)
ORDER BY CASE WHEN %(before)s::text IS NULL THEN a.id END DESC, a.id
LIMIT %(limit)s;
