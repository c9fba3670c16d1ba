-- Hands a job back unfinished; it is due at once, before everything that waits.
-- KEYS: queue, in-progress        ARGV: id, worker
local time = redis.call('TIME')
if redis.call('GET', KEYS[2]) ~= ARGV[2] then return 0 end
redis.call('DEL', KEYS[2])
redis.call('ZADD', KEYS[1], time[1] * 1000 + math.floor(time[2] / 1000), ARGV[1])
return 1
