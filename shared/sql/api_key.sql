-- name: find_api_key
SELECT id, name, prefix, scopes, created_at, expires_at, revoked_at
FROM api_key
WHERE digest = %(digest)s
  AND revoked_at IS NULL
  AND (expires_at IS NULL OR expires_at > now());

-- name: ensure_bootstrap_api_key
INSERT INTO api_key (id, name, prefix, digest, scopes, bootstrap)
VALUES (%(id)s, %(name)s, %(prefix)s, %(digest)s, %(scopes)s, true)
ON CONFLICT (bootstrap) WHERE bootstrap DO UPDATE
SET prefix = excluded.prefix,
    digest = excluded.digest,
    scopes = excluded.scopes,
    expires_at = NULL,
    revoked_at = NULL
WHERE (api_key.digest, api_key.scopes, api_key.expires_at, api_key.revoked_at)
    IS DISTINCT FROM (excluded.digest, excluded.scopes, NULL, NULL);
