-- Puts one job on a queue unless it is full or more than its caller may use, and calls a worker.
-- KEYS: queue, job, wake, share, retry, record of the hold, holds
-- ARGV: id, job bytes, life ms, limit, slack ms, cost ms, horizon ms, boundary ms, attempts before,
--       life of the call in ms, 0: nobody is called, hold or ''
-- Returns {1 queued | 0 known already | -1 full, waiting before}; of a job with a hold that is let in
-- also whether what was spent is to be looked up again, and requests and tokens of each tally with
-- it; or else {-2 a limit | -3 a budget, waiting, how the tallies stand, what is in the way}.
-- Who is refused leaves no trace. A later attempt was let in before: it keeps its hold, or gets it
-- again where Redis forgot it.
-- The score orders: arrival, pushed back by the class's slack and by what the same API key
-- already has waiting (start-time fair queueing with the wall clock as virtual time), all
-- shifted one horizon into the past so that every waiting job is due for arq too.
local now, epoch = clock()
local waiting = redis.call('ZCOUNT', KEYS[1], '-inf', now - ARGV[8])
if redis.call('EXISTS', KEYS[2]) == 1 then return {0, waiting} end
if waiting >= tonumber(ARGV[4]) then return {-1, waiting} end
local told = {1, waiting}
if ARGV[11] ~= '' then
  local names, hold = {KEYS[6], KEYS[7]}, cmsgpack.unpack(ARGV[11])
  if ARGV[9] == '0' then
    local states = look(hold, now, epoch)
    local refused = check_limits(hold, states, now)
    if refused then return {-2, waiting, standing_of(hold, states, now), refused} end
    refused, told[3] = check_budgets(hold, states, now)
    if refused then return {-3, waiting, standing_of(hold, states, now), refused} end
    count(hold, states, hold[2], now)
    told[3] = told[3] and 1 or 0
    reserve(names, ARGV[1], ARGV[11], hold, states, true, now)
    tell(told, states)
  elseif redis.call('EXISTS', KEYS[6]) == 0 then
    reserve(names, ARGV[1], ARGV[11], hold, look(hold, now, epoch), false, now)
  end
end
local start = tonumber(redis.call('GET', KEYS[4]) or now)
if start < now then start = now end
local latest = now + ARGV[8] / 3
if start > latest then start = latest end
local free = start + ARGV[6]
redis.call('SET', KEYS[4], string.format('%d', free), 'PX', math.max(1, math.floor(free - now)))
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
if ARGV[9] ~= '0' then redis.call('SET', KEYS[5], ARGV[9], 'EX', 88400) end
redis.call('ZADD', KEYS[1], string.format('%d', start + ARGV[5] - ARGV[7]), ARGV[1])
if ARGV[10] ~= '0' and redis.call('LLEN', KEYS[3]) < 1024 then
  redis.call('RPUSH', KEYS[3], KEYS[1])
  redis.call('PEXPIRE', KEYS[3], ARGV[10])
end
return told
