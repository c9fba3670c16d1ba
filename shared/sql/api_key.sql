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
