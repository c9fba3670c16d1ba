-- Cancels a job: drops it while it waits, else tells the worker that holds its lease.
-- KEYS: queue, job, in-progress, retry, abort set
-- ARGV: id, message, message life ms, control list prefix
-- Returns 2 dropped, 1 told, 0 not there.
local owner = redis.call('GET', KEYS[3])
if owner then
  local time = redis.call('TIME')
  redis.call('ZADD', KEYS[5], time[1] * 1000 + math.floor(time[2] / 1000), ARGV[1])
  local list = ARGV[4] .. owner
  redis.call('RPUSH', list, ARGV[2])
  redis.call('PEXPIRE', list, ARGV[3])
  return 1
end
local known = redis.call('DEL', KEYS[2])
redis.call('DEL', KEYS[4])
redis.call('ZREM', KEYS[1], ARGV[1])
return known * 2
