-- name: bound_session
SELECT set_config('statement_timeout', '60s', false),
       set_config('lock_timeout', '10s', false),
       set_config('idle_session_timeout', %(idle)s, false),
       set_config('idle_in_transaction_session_timeout', %(idle)s, false);

-- name: try_lock
SELECT pg_try_advisory_lock(%(key)s) AS locked;

-- name: still_here
SELECT 1;

-- name: write_batch
WITH fresh AS (
    INSERT INTO usage_event
    SELECT timestamptz 'epoch' + (e->>0)::bigint * interval '1 millisecond',
           e->>1, e->>2, e->>3, e->>4, e->>5, e->>6, e->>7, (e->>8)::bigint, (e->>9)::bigint,
           (e->>10)::bigint, (e->>11)::bigint, (e->>12)::bigint, (e->>13)::bigint,
           (e->>14)::bigint, (e->>15)::bigint, (e->>16)::bigint, (e->>17)::bigint,
           (e->>18)::smallint, e->>19, e->>20, (e->>21)::boolean
    FROM jsonb_array_elements(%(events)s::jsonb) AS e
    ON CONFLICT DO NOTHING
    RETURNING *
), told AS (
    INSERT INTO usage_hourly AS h (
        hour, project, key, model, adapter, endpoint, class,
        requests, failures, exact_hits, semantic_hits, tokens_in, tokens_cached, tokens_out,
        queue_ms, load_ms, first_ms, total_ms, gpu_ms, millijoules, micros
    )
    SELECT date_trunc('hour', ts, 'UTC'), project, key, model, coalesce(adapter, ''), endpoint,
           class, count(*), count(*) FILTER (WHERE status >= 400),
           count(*) FILTER (WHERE cache = 'exact'), count(*) FILTER (WHERE cache = 'semantic'),
           sum(tokens_in), sum(tokens_cached), sum(tokens_out), coalesce(sum(queue_ms), 0),
           coalesce(sum(load_ms), 0), coalesce(sum(first_ms), 0), sum(total_ms), sum(gpu_ms),
           coalesce(sum(millijoules), 0), sum(micros)
    FROM fresh
    GROUP BY 1, 2, 3, 4, 5, 6, 7
    ON CONFLICT (hour, project, key, model, adapter, endpoint, class) DO UPDATE
    SET requests = h.requests + excluded.requests,
        failures = h.failures + excluded.failures,
        exact_hits = h.exact_hits + excluded.exact_hits,
        semantic_hits = h.semantic_hits + excluded.semantic_hits,
        tokens_in = h.tokens_in + excluded.tokens_in,
        tokens_cached = h.tokens_cached + excluded.tokens_cached,
        tokens_out = h.tokens_out + excluded.tokens_out,
        queue_ms = h.queue_ms + excluded.queue_ms,
        load_ms = h.load_ms + excluded.load_ms,
        first_ms = h.first_ms + excluded.first_ms,
        total_ms = h.total_ms + excluded.total_ms,
        gpu_ms = h.gpu_ms + excluded.gpu_ms,
        millijoules = h.millijoules + excluded.millijoules,
        micros = h.micros + excluded.micros
)
SELECT count(*) AS written FROM fresh;

-- name: strayed_months
SELECT DISTINCT date_trunc('month', ts, 'UTC')::timestamp::date AS month FROM usage_event_default;

-- name: months
SELECT to_date(right(c.relname, 7), 'YYYY_MM') AS month,
       pg_total_relation_size(c.oid) AS bytes
FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = 'usage_event'::regclass AND c.relname ~ '^usage_event_\d{4}_\d{2}$'
ORDER BY 1;

-- name: make_month
SELECT usage_month_make(%(month)s) AS made;

-- name: drop_month
SELECT usage_month_drop(%(month)s) AS freed;
