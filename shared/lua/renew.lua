-- Prolongs a worker's leases and forgets old cancellations.
-- A lease that ran out but that nobody took is simply taken again. One of a cancelled job is lost:
-- the worker was told, but that may have gone down with a connection.
-- What each job used so far is kept, for when this worker dies and nobody else knows.
-- KEYS: abort set, then one queue per job        ARGV: worker, lease ms, prefixes (in-progress, job,
--                                                      last words), life of these in ms, then
--                                                      id and last words or '' of each
-- Returns the ids whose lease is no longer this worker's.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - 60000)
local lost = {}
for i = 2, #KEYS do
  local id, said = ARGV[3 + 2 * i], ARGV[4 + 2 * i]
  local lease = ARGV[3] .. id
  local owner = redis.call('GET', lease)
  local ours = owner == ARGV[1] or (not owner and redis.call('EXISTS', ARGV[4] .. id) == 1)
  if ours and not redis.call('ZSCORE', KEYS[1], id) then
    redis.call('SET', lease, ARGV[1], 'PX', ARGV[2])
    redis.call('ZADD', KEYS[i], now + ARGV[2], id)
    if said ~= '' then redis.call('SET', ARGV[5] .. id, said, 'PX', ARGV[6]) end
  else
    lost[#lost + 1] = id
  end
end
return lost
