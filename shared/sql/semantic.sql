-- name: find_neighbours
-- Exact within the scope; an embedding of another width is another model's and not comparable.
SELECT near.id, kept.question, kept.answer, near.similarity
FROM (
    SELECT id, 1 - (embedding <=> %(embedding)s::halfvec) AS similarity
    FROM semantic_neighbour
    WHERE project_id = %(project)s
      AND scope = %(scope)s
      AND expires_at > now()
      AND vector_dims(embedding) = %(width)s
      AND NOT EXISTS (
          SELECT 1 FROM semantic_trial WHERE project_id = %(project)s AND off_since IS NOT NULL
      )
    ORDER BY embedding <=> %(embedding)s::halfvec
    LIMIT %(limit)s
) AS near
JOIN semantic_answer AS kept USING (id)
WHERE near.similarity >= %(threshold)s
ORDER BY near.similarity DESC;

-- name: keep_answer
WITH near AS (
    INSERT INTO semantic_neighbour (
        project_id, scope, question_digest, embedding, bytes, expires_at
    )
    VALUES (
        %(project)s, %(scope)s, %(digest)s, %(embedding)s::halfvec, %(bytes)s,
        now() + make_interval(secs => %(seconds)s)
    )
    ON CONFLICT (project_id, scope, question_digest) DO UPDATE
    SET embedding = excluded.embedding,
        bytes = excluded.bytes,
        created_at = now(),
        expires_at = excluded.expires_at
    RETURNING id
)
INSERT INTO semantic_answer (id, model, question, answer)
SELECT id, %(model)s, %(question)s, %(answer)s FROM near
ON CONFLICT (id) DO UPDATE
SET model = excluded.model, question = excluded.question, answer = excluded.answer;

-- name: trim_answers
-- The oldest go first, by number and by bytes; what has expired goes with them.
DELETE FROM semantic_neighbour
WHERE id IN (
    SELECT id
    FROM (
        SELECT id, expires_at,
               row_number() OVER newest AS place,
               sum(bytes) OVER newest AS total
        FROM semantic_neighbour
        WHERE project_id = %(project)s
        WINDOW newest AS (ORDER BY created_at DESC, id DESC)
    ) AS kept
    WHERE place > %(most)s OR total > %(most_bytes)s OR expires_at <= now()
);

-- name: purge_answers
DELETE FROM semantic_neighbour AS near
USING semantic_answer AS kept
WHERE kept.id = near.id
  AND (%(project)s::text IS NULL OR near.project_id = %(project)s)
  AND (%(models)s::text[] IS NULL OR kept.model = ANY (%(models)s));

-- name: purge_expired
DELETE FROM semantic_neighbour WHERE expires_at <= now();

-- name: drop_answer
DELETE FROM semantic_neighbour WHERE id = %(id)s AND project_id = %(project)s;

-- name: count_hit
WITH answer AS (
    UPDATE semantic_answer SET hits = hits + 1 WHERE id = %(id)s
)
INSERT INTO semantic_trial (project_id, hits) VALUES (%(project)s, 1)
ON CONFLICT (project_id) DO UPDATE SET hits = semantic_trial.hits + 1;

-- name: count_check
INSERT INTO semantic_trial (project_id, checked, wrong) VALUES (%(project)s, 1, %(wrong)s)
ON CONFLICT (project_id) DO UPDATE
SET checked = semantic_trial.checked + 1, wrong = semantic_trial.wrong + excluded.wrong
RETURNING hits, checked, wrong, extract(epoch FROM since)::bigint AS since,
          extract(epoch FROM off_since)::bigint AS off_since, off_reason;

-- name: find_trial
SELECT hits, checked, wrong, extract(epoch FROM since)::bigint AS since,
       extract(epoch FROM off_since)::bigint AS off_since, off_reason
FROM semantic_trial
WHERE project_id = %(project)s;

-- name: turn_off
UPDATE semantic_trial
SET off_since = now(), off_reason = %(reason)s
WHERE project_id = %(project)s AND off_since IS NULL;

-- name: restart_trial
DELETE FROM semantic_trial WHERE project_id = %(project)s;

-- name: measure_answers
SELECT count(*) AS answers, coalesce(sum(bytes), 0)::bigint AS bytes
FROM semantic_neighbour
WHERE (%(project)s::text IS NULL OR project_id = %(project)s) AND expires_at > now();
