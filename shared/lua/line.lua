-- How jobs wait, and how workers are called. After clock.lua.

-- Puts a job in line. The score orders: arrival, pushed back by the class's slack and by what the same
-- API key already has waiting (start-time fair queueing with the wall clock as virtual time), all
-- shifted one horizon into the past so that every waiting job is due for arq too.
local function line_up(queue, share, id, now, cost, slack, horizon, boundary)
  local start = math.max(now, tonumber(redis.call('GET', share) or now))
  start = math.min(start, now + boundary / 3)
  local free = start + cost
  redis.call('SET', share, whole(free), 'PX', math.max(1, math.floor(free - now)))
  redis.call('ZADD', queue, whole(start + slack - horizon), id)
end

-- Whether nobody waits: neither in line nor because a lease ran out.
local function idle(queue, now) return redis.call('ZCOUNT', queue, '-inf', now) == 0 end

-- Notes the first attempt at a job that may be there for longer than a lease that ran out can be told
-- from a place in line. Else attempts are counted from the second on.
local function mark_first(retry, life, boundary)
  if life > boundary then redis.call('SET', retry, 1, 'EX', 88400) end
end

-- Whether a worker is to be handed jobs that has so many calls before it: few, and not the empty one
-- that says it hears no more.
local function hears(wake, calls)
  return calls and calls < 32 and (calls == 0 or redis.call('LINDEX', wake, 0) ~= '')
end
