-- After a cut, puts a job that is still running back as if Redis had never forgotten it.
-- KEYS: queue, job, in-progress, retry, record of the hold, holds
-- ARGV: id, job bytes, life ms, worker, lease ms, attempt, hold or ''
-- Who claimed a job that Redis had forgotten was running has no later attempt, and gives way.
-- Returns 1, or 0 when a later attempt has begun.
local now, epoch = clock()
if tonumber(redis.call('GET', KEYS[4]) or 0) > tonumber(ARGV[6]) then return 0 end
if ARGV[7] ~= '' and redis.call('EXISTS', KEYS[5]) == 0 then
  local hold = read_hold(ARGV[7])
  reserve({KEYS[5], KEYS[6]}, ARGV[1], ARGV[7], hold, look(hold, now, epoch), false, now)
end
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
redis.call('SET', KEYS[3], ARGV[4], 'PX', ARGV[5])
redis.call('SET', KEYS[4], ARGV[6], 'EX', 88400)
redis.call('ZADD', KEYS[1], now + ARGV[5], ARGV[1])
return 1
