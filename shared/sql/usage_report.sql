-- name: report
WITH edge AS (
    SELECT * FROM (VALUES
        (%(since)s::timestamptz, %(first)s::timestamptz),
        (%(last)s::timestamptz, %(until)s::timestamptz)
    ) AS e (since, until)
), used AS (
    SELECT hour AS ts, project, key, model, adapter, endpoint, class,
           requests, failures, exact_hits, semantic_hits, tokens_in, tokens_cached, tokens_out,
           queue_ms, load_ms, total_ms, gpu_ms, millijoules, micros
    FROM usage_hourly
    WHERE hour >= %(first)s AND hour < %(last)s
    UNION ALL
    SELECT u.ts, u.project, u.key, u.model, coalesce(u.adapter, ''), u.endpoint, u.class,
           1, (u.status >= 400)::int, (u.cache = 'exact')::int, (u.cache = 'semantic')::int,
           u.tokens_in, u.tokens_cached, u.tokens_out,
           coalesce(u.queue_ms, 0), coalesce(u.load_ms, 0), u.total_ms, u.gpu_ms,
           coalesce(u.millijoules, 0), u.micros
    FROM edge JOIN usage_event u ON u.ts >= edge.since AND u.ts < edge.until
)
SELECT extract(epoch FROM date_trunc(%(width)s::text, used.ts, 'UTC'))::bigint AS start,
       CASE WHEN %(by_project)s THEN used.project END AS project,
       CASE WHEN %(by_user)s THEN k.user_id END AS user,
       CASE WHEN %(by_key)s THEN used.key END AS key,
       CASE WHEN %(by_model)s THEN used.model END AS model,
       CASE WHEN %(by_adapter)s THEN used.adapter END AS adapter,
       CASE WHEN %(by_endpoint)s THEN used.endpoint END AS endpoint,
       CASE WHEN %(by_class)s THEN used.class END AS class,
       sum(requests)::bigint AS requests,
       sum(failures)::bigint AS failures,
       sum(exact_hits)::bigint AS exact_hits,
       sum(semantic_hits)::bigint AS semantic_hits,
       sum(tokens_in)::bigint AS tokens_in,
       sum(tokens_cached)::bigint AS tokens_cached,
       sum(tokens_out)::bigint AS tokens_out,
       sum(queue_ms)::bigint AS queue_ms,
       sum(load_ms)::bigint AS load_ms,
       sum(total_ms)::bigint AS total_ms,
       sum(gpu_ms)::bigint AS gpu_ms,
       sum(millijoules)::bigint AS millijoules,
       sum(micros)::bigint AS micros
FROM used LEFT JOIN api_key k ON k.id = used.key
WHERE (%(projects)s::text[] IS NULL OR used.project = ANY (%(projects)s))
  AND (%(users)s::text[] IS NULL OR k.user_id = ANY (%(users)s))
  AND (%(keys)s::text[] IS NULL OR used.key = ANY (%(keys)s))
  AND (%(models)s::text[] IS NULL OR used.model = ANY (%(models)s))
  AND (%(adapters)s::text[] IS NULL OR used.adapter = ANY (%(adapters)s))
  AND (%(endpoints)s::text[] IS NULL OR used.endpoint = ANY (%(endpoints)s))
  AND (%(classes)s::text[] IS NULL OR used.class = ANY (%(classes)s))
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
ORDER BY 1, 2, 3, 4, 5, 6, 7, 8
LIMIT %(limit)s OFFSET %(offset)s;

-- name: find_event
SELECT (extract(epoch FROM ts) * 1000)::bigint AS ts_ms, request_id, project, key, model, adapter,
       endpoint, class AS service, tokens_in, tokens_cached, tokens_out, queue_ms, load_ms,
       first_ms, total_ms, gpu_ms, millijoules, micros, status, code, cache, streamed
FROM usage_event
WHERE ts = timestamptz 'epoch' + %(ts_ms)s * interval '1 millisecond'
  AND request_id = %(request_id)s;
