-- Puts one job on a queue unless it is full or more than its caller may use, and calls a worker; or
-- hands it to a worker that listens, if nobody waits: that has a lease of it then as if it had claimed it.
-- KEYS: queue, job, wake, share, retry, record of the hold, holds, in-progress
-- ARGV: id, job bytes, life ms, limit, slack ms, cost ms, horizon ms, boundary ms, attempts before,
--       life of the call in ms, 0: nobody is called, hold or '', the worker if it is to be handed over
--       or '', lease ms
-- Returns {1 queued | 0 known already | -1 full, waiting before}; of a job with a hold that is let in
-- also whether what was spent is to be looked up again, and requests and tokens of each tally with
-- it; or else {-2 a limit | -3 a budget, waiting, how the tallies stand, what is in the way}.
-- Who is refused leaves no trace. A later attempt was let in before: it keeps its hold, or gets it
-- again where Redis forgot it.
local now, epoch = clock()
local waiting = redis.call('ZCOUNT', KEYS[1], '-inf', now - ARGV[8])
if redis.call('EXISTS', KEYS[2]) == 1 then return {0, waiting} end
if waiting >= tonumber(ARGV[4]) then return {-1, waiting} end
local told = {1, waiting}
if ARGV[11] ~= '' then
  local names, hold = {KEYS[6], KEYS[7]}, read_hold(ARGV[11])
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
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
local calls = ARGV[10] ~= '0' and redis.call('LLEN', KEYS[3])
if ARGV[12] ~= '' and idle(KEYS[1], now) and hears(KEYS[3], calls) then
  redis.call('SET', KEYS[8], ARGV[12], 'PX', ARGV[13])
  mark_first(KEYS[5], tonumber(ARGV[3]), tonumber(ARGV[8]))
  redis.call('ZADD', KEYS[1], whole(now + ARGV[13]), ARGV[1])
  redis.call('RPUSH', KEYS[3], table.concat({'', ARGV[1], KEYS[1], ARGV[2]}, '\0'))
  redis.call('PEXPIRE', KEYS[3], ARGV[10])
  return told
end
line_up(KEYS[1], KEYS[4], ARGV[1], now, ARGV[6], ARGV[5], ARGV[7], ARGV[8])
if ARGV[9] ~= '0' then redis.call('SET', KEYS[5], ARGV[9], 'EX', 88400) end
if calls and calls < 1024 then
  redis.call('RPUSH', KEYS[3], KEYS[1])
  redis.call('PEXPIRE', KEYS[3], ARGV[10])
end
return told
