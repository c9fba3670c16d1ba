-- Removes a job that has ended, if the lease is still this worker's.
-- KEYS: queue, job, in-progress, retry, abort set        ARGV: id, worker
-- Returns 1, or 0 when the lease was lost.
if redis.call('GET', KEYS[3]) ~= ARGV[2] then return 0 end
redis.call('DEL', KEYS[2], KEYS[3], KEYS[4])
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[5], ARGV[1])
return 1
