-- name: put_price
INSERT INTO model_price (model, input, cached, output, gpu_second)
VALUES (%(model)s, %(input)s, %(cached)s, %(output)s, %(gpu_second)s)
ON CONFLICT (model) DO UPDATE
SET input = excluded.input,
    cached = excluded.cached,
    output = excluded.output,
    gpu_second = excluded.gpu_second,
    changed_at = now();

-- name: delete_price
DELETE FROM model_price WHERE model = %(model)s;

-- name: lock_price
SELECT 1 FROM model_price WHERE model = %(model)s FOR UPDATE;

-- name: find_prices
SELECT model, input, cached, output, gpu_second, extract(epoch FROM changed_at)::bigint AS changed_at
FROM model_price
WHERE (%(model)s::text IS NULL OR model = %(model)s)
  AND (
      %(after)s::text IS NULL
      OR CASE WHEN %(down)s THEN model < %(after)s ELSE model > %(after)s END
  )
ORDER BY CASE WHEN %(down)s THEN model END DESC, model
LIMIT %(limit)s;

-- name: all_prices
SELECT model, input, cached, output, gpu_second FROM model_price;
