-- Cancels a job: drops it and what is held for it while it waits, else tells the worker that holds
-- its lease.
-- KEYS: queue, job, in-progress, retry, abort set, usage stream, count of lost events,
--       record of the hold, holds
-- ARGV: id, message, message life ms, control list prefix, usage event or '', which is written down
--       where the job is dropped, events the stream has room for
-- Returns 2 dropped, 1 told, 0 not there, 3 dropped without room for the event.
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
if redis.call('EXISTS', KEYS[8]) == 1 then settle({KEYS[8], KEYS[9]}, ARGV[1], nil, 0, 0) end
if known == 1 and ARGV[5] ~= '' then
  if redis.call('XLEN', KEYS[6]) >= tonumber(ARGV[6]) then
    redis.call('INCR', KEYS[7])
    return 3
  end
  redis.call('XADD', KEYS[6], '*', 'e', ARGV[5])
end
return known * 2
