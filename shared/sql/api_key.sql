-- name: find_account
SELECT k.id AS key,
       k.project_id AS project,
       p.organisation_id AS organisation,
       k.name,
       k.scopes,
       k.models,
       jsonb_build_object(
           'requests_per_minute', k.requests_per_minute,
           'tokens_per_minute', k.tokens_per_minute,
           'concurrent', k.concurrent
       ) AS key_limits,
       jsonb_build_object(
           'requests_per_minute', p.requests_per_minute,
           'tokens_per_minute', p.tokens_per_minute,
           'concurrent', p.concurrent
       ) AS project_limits,
       (
           SELECT coalesce(
               jsonb_agg(
                   jsonb_build_object(
                       'id', b.id,
                       'owner', CASE WHEN b.key_id IS NULL THEN 'project' ELSE 'key' END,
                       'owner_id', coalesce(b.key_id, b.project_id),
                       'period', b.period,
                       'tokens', b.tokens,
                       'micros', b.micros
                   )
                   ORDER BY b.id
               ),
               '[]'
           )
           FROM budget b
           WHERE b.key_id = k.id OR b.project_id = p.id
       ) AS budgets,
       p.cache,
       CASE WHEN k.digest = %(digest)s THEN k.expires_at
            ELSE least(k.expires_at, k.previous_until)
       END AS expires_at
FROM api_key k
JOIN project p ON p.id = k.project_id
WHERE (k.digest = %(digest)s OR k.previous_digest = %(digest)s AND k.previous_until > now())
  AND k.revoked_at IS NULL
  AND (k.expires_at IS NULL OR k.expires_at > now())
  AND p.archived_at IS NULL;

-- name: ensure_bootstrap_api_key
INSERT INTO api_key (id, name, prefix, digest, scopes, bootstrap, project_id)
VALUES (%(id)s, %(name)s, %(prefix)s, %(digest)s, %(scopes)s, true, %(project)s)
ON CONFLICT (bootstrap) WHERE bootstrap DO UPDATE
SET prefix = excluded.prefix,
    digest = excluded.digest,
    scopes = excluded.scopes,
    project_id = excluded.project_id,
    models = '{}',
    previous_digest = NULL,
    previous_until = NULL,
    expires_at = NULL,
    revoked_at = NULL
WHERE (
    api_key.digest, api_key.scopes, api_key.project_id, api_key.models,
    api_key.expires_at, api_key.revoked_at
) IS DISTINCT FROM (
    excluded.digest, excluded.scopes, excluded.project_id, '{}'::text[], NULL, NULL
);

-- name: insert_api_key
INSERT INTO api_key (
    id, name, prefix, digest, scopes, project_id, user_id, models,
    requests_per_minute, tokens_per_minute, concurrent, expires_at
)
VALUES (
    %(id)s, %(name)s, %(prefix)s, %(digest)s, %(scopes)s, %(project)s, %(user)s, %(models)s,
    %(requests_per_minute)s, %(tokens_per_minute)s, %(concurrent)s,
    to_timestamp(%(expires_at)s::bigint)
);

-- name: update_api_key
UPDATE api_key
SET name = %(name)s,
    scopes = %(scopes)s,
    models = %(models)s,
    requests_per_minute = %(requests_per_minute)s,
    tokens_per_minute = %(tokens_per_minute)s,
    concurrent = %(concurrent)s,
    expires_at = to_timestamp(%(expires_at)s::bigint)
WHERE id = %(id)s;

-- name: rotate_api_key
UPDATE api_key
SET previous_digest = digest,
    previous_until = now() + make_interval(secs => %(grace)s),
    digest = %(digest)s,
    prefix = %(prefix)s,
    rotated_at = now()
WHERE id = %(id)s;

-- name: revoke_api_key
UPDATE api_key SET revoked_at = now() WHERE id = %(id)s;

-- name: lock_api_key
SELECT 1 FROM api_key WHERE id = %(id)s FOR UPDATE;

-- name: find_api_keys
SELECT k.id,
       k.name,
       k.project_id AS project,
       k.user_id AS user,
       k.scopes,
       k.models,
       jsonb_build_object(
           'requests_per_minute', k.requests_per_minute,
           'tokens_per_minute', k.tokens_per_minute,
           'concurrent', k.concurrent
       ) AS limits,
       k.prefix || '…' AS redacted_value,
       k.bootstrap,
       extract(epoch FROM k.created_at)::bigint AS created_at,
       extract(epoch FROM k.expires_at)::bigint AS expires_at,
       extract(epoch FROM k.revoked_at)::bigint AS revoked_at,
       extract(epoch FROM k.rotated_at)::bigint AS rotated_at,
       CASE WHEN k.previous_until > now()
            THEN extract(epoch FROM k.previous_until)::bigint
       END AS previous_until,
       (
           SELECT extract(epoch FROM max(h.hour))::bigint FROM usage_hourly h WHERE h.key = k.id
       ) AS last_used_at,
       CASE WHEN u.id IS NULL THEN
           jsonb_build_object(
               'type', 'service_account',
               'id', k.id,
               'name', k.name,
               'role', 'member',
               'created_at', extract(epoch FROM k.created_at)::bigint,
               'service_account', jsonb_build_object(
                   'object', 'organization.project.service_account',
                   'id', k.id,
                   'name', k.name,
                   'role', 'member',
                   'created_at', extract(epoch FROM k.created_at)::bigint
               )
           )
       ELSE
           jsonb_build_object(
               'type', 'user',
               'id', u.id,
               'name', u.name,
               'role', u.role,
               'created_at', extract(epoch FROM u.created_at)::bigint,
               'user', jsonb_build_object(
                   'object', 'organization.project.user',
                   'id', u.id,
                   'name', u.name,
                   'email', u.email,
                   'role', coalesce(m.role, 'owner'),
                   'added_at', extract(epoch FROM coalesce(m.created_at, u.created_at))::bigint,
                   'created_at', extract(epoch FROM u.created_at)::bigint
               )
           )
       END AS owner,
       CASE WHEN u.id IS NULL OR m.user_id IS NOT NULL OR u.role = 'owner'
            THEN 'active' ELSE 'inactive'
       END AS owner_project_access
FROM api_key k
LEFT JOIN app_user u ON u.id = k.user_id
LEFT JOIN membership m ON m.user_id = k.user_id AND m.project_id = k.project_id
WHERE (%(id)s::text IS NULL OR k.id = %(id)s)
  AND (%(project)s::text IS NULL OR k.project_id = %(project)s)
  AND (%(user)s::text IS NULL OR k.user_id = %(user)s)
  AND (%(revoked)s OR k.revoked_at IS NULL)
  AND (%(scope)s::text IS NULL OR %(scope)s = ANY (k.scopes))
  AND (NOT %(userless)s OR k.user_id IS NULL)
  AND (%(after)s::text IS NULL OR CASE WHEN %(down)s THEN k.id < %(after)s ELSE k.id > %(after)s END)
ORDER BY CASE WHEN %(down)s THEN k.id END DESC, k.id
LIMIT %(limit)s;
