-- Puts a job in line that was handed to a worker which has no place for it.
-- KEYS: queue, in-progress, share, abort set
-- ARGV: id, worker, cost ms, slack ms, horizon ms, boundary ms
-- Returns 1; 0 when the lease was lost; or 2 when it was cancelled, and is left to the worker.
if redis.call('GET', KEYS[2]) ~= ARGV[2] then return 0 end
if redis.call('ZSCORE', KEYS[4], ARGV[1]) then return 2 end
redis.call('DEL', KEYS[2])
line_up(KEYS[1], KEYS[3], ARGV[1], clock(), unpack(ARGV, 3))
return 1
