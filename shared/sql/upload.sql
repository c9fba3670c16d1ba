-- name: insert_upload
INSERT INTO upload (id, project_id, filename, purpose, bytes, file_seconds, expires_at)
VALUES (
    %(id)s, %(project)s, %(filename)s, %(purpose)s, %(bytes)s, %(file_seconds)s,
    now() + make_interval(secs => %(seconds)s)
);

-- name: lock_upload
SELECT 1 FROM upload WHERE id = %(id)s AND project_id = %(project)s FOR UPDATE;

-- name: find_upload
SELECT id, bytes, filename, purpose, file_seconds, file_id,
       CASE WHEN status = 'pending' AND expires_at <= now() THEN 'expired' ELSE status END
           AS status,
       extract(epoch FROM created_at)::bigint AS created_at,
       extract(epoch FROM expires_at)::bigint AS expires_at
FROM upload
WHERE id = %(id)s AND project_id = %(project)s;

-- name: count_pending
SELECT count(*) AS pending
FROM upload
WHERE project_id = %(project)s AND status = 'pending' AND expires_at > now();

-- name: find_parts
SELECT id, bytes FROM blob WHERE upload_id = %(id)s;

-- name: take_parts
UPDATE blob
SET file_id = %(file)s, upload_id = NULL, position = part.position
FROM unnest(%(parts)s::text[]) WITH ORDINALITY AS part (id, position)
WHERE blob.id = part.id AND blob.upload_id = %(id)s;

-- name: drop_parts
UPDATE blob SET upload_id = NULL WHERE upload_id = %(id)s;

-- name: end_upload
UPDATE upload SET status = %(status)s, file_id = %(file)s WHERE id = %(id)s;

-- name: drop_expired_parts
UPDATE blob
SET upload_id = NULL
FROM upload
WHERE blob.upload_id = upload.id AND upload.expires_at <= now();

-- name: delete_old_uploads
DELETE FROM upload
WHERE expires_at <= now() - make_interval(secs => %(seconds)s);
