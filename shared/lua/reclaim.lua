-- Ends the leases of a worker that is known to be dead: its jobs are due at once.
-- KEYS: queue…        ARGV: worker, in-progress prefix, boundary ms
-- Returns how many jobs it held.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local held = 0
for _, queue in ipairs(KEYS) do
  local running = redis.call('ZRANGE', queue, '(' .. now - ARGV[3], '+inf', 'BYSCORE')
  for _, id in ipairs(running) do
    if redis.call('GET', ARGV[2] .. id) == ARGV[1] then
      redis.call('DEL', ARGV[2] .. id)
      redis.call('ZADD', queue, now, id)
      held = held + 1
    end
  end
end
return held
