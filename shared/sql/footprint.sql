-- name: find_footprint
SELECT weights_bytes AS weights,
       adapters_bytes AS adapters,
       loaded_bytes AS loaded,
       peak_bytes AS peak,
       requests,
       measured_at
FROM footprint
WHERE device = %(device)s
  AND model = %(model)s
  AND engine = %(engine)s
  AND context = %(context)s
  AND parallel = %(parallel)s;

-- name: record_footprint
INSERT INTO footprint (
    device, model, engine, context, parallel,
    weights_bytes, adapters_bytes, loaded_bytes, peak_bytes, requests
)
VALUES (
    %(device)s, %(model)s, %(engine)s, %(context)s, %(parallel)s,
    %(weights)s, %(adapters)s, %(loaded)s, %(peak)s, %(requests)s
)
ON CONFLICT (device, model, engine, context, parallel) DO UPDATE
SET weights_bytes = excluded.weights_bytes,
    adapters_bytes = excluded.adapters_bytes,
    loaded_bytes = excluded.loaded_bytes,
    peak_bytes = excluded.peak_bytes,
    requests = excluded.requests,
    measured_at = now()
-- The newest counts, unless it served too little to replace one that showed its most.
WHERE footprint.weights_bytes <> excluded.weights_bytes
   OR excluded.requests >= least(footprint.requests, %(settled)s);

-- name: find_shortfall
SELECT least_bytes
FROM shortfall
WHERE device = %(device)s
  AND model = %(model)s
  AND engine = %(engine)s
  AND context = %(context)s
  AND parallel = %(parallel)s
  AND weights_bytes = %(weights)s;

-- name: record_shortfall
INSERT INTO shortfall (device, model, engine, context, parallel, weights_bytes, least_bytes)
VALUES (
    %(device)s, %(model)s, %(engine)s, %(context)s, %(parallel)s, %(weights)s, %(least)s
)
ON CONFLICT (device, model, engine, context, parallel) DO UPDATE
SET weights_bytes = excluded.weights_bytes,
    least_bytes = excluded.least_bytes,
    noted_at = now();
