-- What requests may use up: limits a minute, and budgets. Before the scripts that reserve or settle.
-- A hold is what shared.wire.hold.Hold describes. Its record, kept beside the job, is
-- {hold, second of its tokens or 0, epoch of each counter that holds its amounts or ''}.
-- A budget's counter, one for each period, is {epoch, generation, spent tokens or -1: not known, spent
-- micro-units, held tokens, held micro-units, when to look again or 0}: in one piece, for a field costs
-- a call what a key does. What ran when a budget was made holds nothing of it; once that has ended, what
-- was spent is looked up again.
local MINUTE = 60000
local FIRST_LOOK = 10000

-- The text of a whole number: Redis would write round ones with an exponent.
local function whole(number) return string.format('%d', number) end

local function clock()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000), time[1] .. time[2]
end

-- Requests of the last minute; what is older goes, in strides.
local function requests_of(log, now)
  local count = redis.call('LLEN', log)
  local stride = count > 0 and 1 or 0
  while stride > 0 do
    local old = redis.call('LINDEX', log, -stride)
    if old and tonumber(old) <= now - MINUTE then
      redis.call('LTRIM', log, 0, -stride - 1)
      count = count - stride
      stride = 512
    else
      stride = math.floor(stride / 8)
    end
  end
  return count
end

-- Tokens of the last minute, to the second: one field for each, s their sum, o the oldest. What it
-- returns goes to add_tokens.
local function tokens_of(buckets, now)
  local second = math.floor(now / 1000)
  local c = redis.call('HMGET', buckets, 's', 'o', whole(second))
  local used, oldest, edge = tonumber(c[1] or 0), tonumber(c[2] or second), second - 60
  if edge - oldest > 120 then
    redis.call('DEL', buckets)
    used, oldest = 0, second
  end
  for past = oldest, edge - 1 do
    used = used - (redis.call('HGET', buckets, whole(past)) or 0)
    redis.call('HDEL', buckets, whole(past))
  end
  if oldest < edge then redis.call('HSET', buckets, 's', whole(used), 'o', whole(edge)) end
  return {whole(second), tonumber(c[3] or 0), used, whole(math.max(oldest, edge))}
end

-- Adds tokens to the second that was looked at; the lists of a minute are kept for a minute more.
local function add_tokens(limit, there, tokens)
  redis.call('HSET', limit[3], there[1], whole(there[2] + tokens), 's', whole(there[3] + tokens),
    'o', there[4])
  if there[2] == 0 then redis.call('PEXPIRE', limit[3], 2 * MINUTE) end
end

-- The seconds whose tokens are counted, in order, and these.
local function seconds_of(buckets)
  local flat = redis.call('HGETALL', buckets)
  local seconds, amounts = {}, {}
  for i = 1, #flat, 2 do
    local second = tonumber(flat[i])
    if second then
      seconds[#seconds + 1] = second
      amounts[second] = tonumber(flat[i + 1])
    end
  end
  table.sort(seconds)
  return seconds, amounts
end

-- Until so many tokens have left the minute: ms, or -1 if that will not do.
local function until_free(seconds, amounts, need, now)
  for _, second in ipairs(seconds) do
    need = need - amounts[second]
    if need <= 0 then return (second + 61) * 1000 - now end
  end
  return -1
end

-- How many ms it takes until nothing is left of a limit's requests, and of its tokens.
local function rest_of(limit, now)
  local newest = limit[2] > 0 and redis.call('LINDEX', limit[1], 0)
  local seconds = limit[4] > 0 and seconds_of(limit[3]) or {}
  local last = seconds[#seconds]
  return newest and newest + MINUTE - now or 0, last and (last + 61) * 1000 - now or 0
end

-- What of a limit is in the way of a request: 1 requests | 2 tokens | 3 concurrent, used, ms until
-- there is room. Sets how the limit stands, and the second that its tokens are counted in.
local function check_limit(limit, i, stand, there, need, now)
  if limit[4] > 0 then
    there[i] = tokens_of(limit[3], now)
    stand[3] = there[i][3]
  end
  if limit[2] > 0 then
    stand[1] = requests_of(limit[1], now)
    if stand[1] >= limit[2] then
      return 1, stand[1], redis.call('LINDEX', limit[1], limit[2] - 1) + MINUTE - now
    end
  end
  if limit[4] > 0 then
    if stand[3] + need > limit[4] then
      local seconds, amounts = seconds_of(limit[3])
      return 2, stand[3], until_free(seconds, amounts, stand[3] + need - limit[4], now)
    end
  end
  if limit[6] > 0 and redis.call('ZCARD', limit[5]) >= limit[6] then
    redis.call('ZREMRANGEBYSCORE', limit[5], '-inf', now)
    local running = redis.call('ZCARD', limit[5])
    if running >= limit[6] then return 3, running, 1000 end
  end
end

-- How each limit stands: {requests, ms until none are left, tokens, the same}; times are there only
-- if one is in the way of a request, as {number, what check_limit returns}. And the seconds that
-- tokens are counted in.
local function check_limits(hold, now)
  local standing, refused, there = {}, nil, {}
  for i, limit in ipairs(hold[5]) do
    standing[i] = {0, 0, 0, 0}
    local what, used, frees = check_limit(limit, i, standing[i], there, hold[2], now)
    if what and not refused then refused = {i, what, used, frees} end
  end
  if refused then
    for i, limit in ipairs(hold[5]) do
      standing[i][2], standing[i][4] = rest_of(limit, now)
    end
  end
  return standing, refused, there
end

-- The counters of a hold's budgets; false for one that is not there.
local function counters_of(hold)
  local names = {}
  for i, draw in ipairs(hold[6]) do names[i] = draw[1] end
  if #names == 0 then return names end
  local counters = redis.call('MGET', unpack(names))
  for i, kept in ipairs(counters) do counters[i] = kept and cmsgpack.unpack(kept) end
  return counters
end

local function new_counter(epoch) return {epoch, 0, -1, 0, 0, 0, 0} end

-- Whether what was spent is to be looked up.
local function due(counter, now)
  return counter[3] < 0 or counter[7] > 0 and counter[7] <= now
end

-- The first budget in the way: {'unknown'}, or {'spent', number, 1 tokens | 2 micros, spent, held};
-- all counters; and {'late'} if one of them is to be looked up again, which stops nobody.
local function check_budgets(hold, now)
  local over, late
  local counters = counters_of(hold)
  for i, draw in ipairs(hold[6]) do
    local c = counters[i]
    if not c or c[3] < 0 then return {'unknown'} end
    if due(c, now) then late = {'late'} end
    for kind = 1, 2 do
      local limit, need = draw[kind + 1], hold[kind + 1]
      local spent, held = c[kind + 2], c[kind + 4]
      if limit >= 0 and need > 0 and spent + held + need > limit and not over then
        over = {'spent', i, kind, spent, held}
      end
    end
  end
  return over, counters, late
end

local function log_request(limit, stand, there, now)
  if limit[2] > 0 then
    redis.call('LPUSH', limit[1], whole(now))
    -- Once a second is enough.
    if not there or there[2] == 0 or stand[1] == 0 then
      redis.call('PEXPIRE', limit[1], 2 * MINUTE)
    end
  end
end

-- Counts a request that was let in, and the tokens that it may use unless it takes none. How its
-- limits stand is then with it.
-- Returns the second of its tokens.
local function count(hold, tokens, standing, there, now)
  for i, limit in ipairs(hold[5]) do
    local stand = standing[i]
    log_request(limit, stand, there[i], now)
    stand[1], stand[2] = stand[1] + 1, MINUTE
    if limit[4] > 0 and tokens then
      add_tokens(limit, there[i], tokens)
      stand[3], stand[4] = stand[3] + tokens, MINUTE + 1000
    end
  end
  return math.floor(now / 1000)
end

-- Writes the record of a job's hold. `names`: of the record, and of the sorted set of holds by the
-- time of the next look at them.
local function reserve(names, id, packed, hold, counters, second, now, epoch)
  local epochs = {}
  for _, limit in ipairs(hold[5]) do
    if limit[6] > 0 then
      redis.call('ZADD', limit[5], whole(hold[4]), id)
    end
  end
  counters = counters or counters_of(hold)
  for i, draw in ipairs(hold[6]) do
    local c = counters[i] or new_counter(epoch)
    epochs[i] = c[1]
    c[5], c[6] = c[5] + hold[2], c[6] + hold[3]
    if draw[5] or not counters[i] then
      redis.call('SET', draw[1], cmsgpack.pack(c), 'PXAT', whole(draw[4]))
    else
      redis.call('SET', draw[1], cmsgpack.pack(c), 'KEEPTTL')
    end
  end
  redis.call('SET', names[1], cmsgpack.pack({packed, second, epochs}))
  redis.call('ZADD', names[2], whole(math.min(hold[4], now + FIRST_LOOK)), id)
end

-- Notes that a hold was settled, and the line of the ledger written, though its job may still end
-- elsewhere: that is not to count again.
local function mark_settled(name) redis.call('SET', name .. ':settled', 1, 'PX', 10 * MINUTE) end

-- Turns a hold into what was used. Without a record only what was used is counted: Redis forgot it.
local function settle(names, id, packed, tokens, micros)
  local record = redis.call('GETDEL', names[1])
  if not record and redis.call('EXISTS', names[1] .. ':settled') == 1 then return end
  local second, epochs = 0, {}
  if record then
    redis.call('ZREM', names[2], id)
    packed, second, epochs = unpack(cmsgpack.unpack(record))
  end
  local hold = cmsgpack.unpack(packed)
  for _, limit in ipairs(hold[5]) do
    if limit[6] > 0 then redis.call('ZREM', limit[5], id) end
    if limit[4] > 0 and second > 0 then
      local c = redis.call('HMGET', limit[3], whole(second), 's')
      if c[1] then
        redis.call('HSET', limit[3], whole(second), whole(c[1] + tokens - hold[2]),
          's', whole(c[2] + tokens - hold[2]))
      end
    end
  end
  local counters = counters_of(hold)
  for i, draw in ipairs(hold[6]) do
    local c = counters[i]
    if c then
      if c[1] == epochs[i] then c[5], c[6] = c[5] - hold[2], c[6] - hold[3] end
      if c[3] >= 0 then c[3], c[4] = c[3] + tokens, c[4] + micros end
      c[2] = c[2] + 1
      redis.call('SET', draw[1], cmsgpack.pack(c), 'KEEPTTL')
    end
  end
end

-- Writes a usage event down; false where the stream has no room for it.
local function record(stream, lost, room, event)
  if redis.call('XLEN', stream) >= tonumber(room) then
    redis.call('INCR', lost)
    return false
  end
  redis.call('XADD', stream, '*', 'e', event)
  return true
end

-- What last words say: usage event, tokens, micro-units.
local function read_words(said)
  if not said then return nil, 0, 0 end
  local tokens, micros, event = string.match(said, '^(%d+) (%d+) (.*)$')
  return event, tonumber(tokens), tonumber(micros)
end
