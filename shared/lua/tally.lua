-- What is counted of a key or a project, for its limits and budgets. All of it is one value, for each
-- command of a call costs more than what it does: NOW, then a COUNTER for each period of a budget.
-- Beside it are the list of the times of its requests (:log), where these are limited, and the hash
-- of its tokens by the second (:seconds), for all but the newest second. After clock.lua.
local MINUTE = 60000
-- A tally's end is put off in such steps.
local STEP = 600000
-- A counter without an end is put off when less than this is left of its life.
local RENEWED = 20 * 86400000

local NOW = '<llI4I4I4I4ll'
local EPOCH, ENDS, OPEN, SECOND, OLDEST, REQUESTS, TOKENS, ALL = 1, 2, 3, 4, 5, 6, 7, 8
-- EPOCH: when it was begun. ENDS: ms when it may be forgotten. OPEN: requests that wait or run.
-- SECOND: the newest that tokens are counted in, TOKENS those, ALL those of the last 61 seconds,
-- OLDEST the first of these. REQUESTS: those in the log.

local COUNTER = 'llllllll'
local TAG, GENERATION, SPENT, MICROS, HELD, HELD_MICROS, AGAIN, UNTIL = 1, 2, 3, 4, 5, 6, 7, 8
-- Behind the place of a counter. TAG: of which budget and period. SPENT tokens -1: it is not known
-- what was spent. AGAIN: ms when to look again, or 0. UNTIL: ms when it may be forgotten.

-- Counter i has its place at 8 * i.
local function layout(counters)
  if counters == 0 then return '<llI4I4I4I4ll' end
  if counters == 1 then return '<llI4I4I4I4llllllllll' end
  if counters == 2 then return '<llI4I4I4I4llllllllllllllllll' end
  return NOW .. string.rep(COUNTER, counters)
end

-- What is kept of a tally, and how many counters it has; nil: there is none.
local function read(kept)
  if not kept then return nil, 0 end
  local counters = (#kept - 48) / 64
  return {struct.unpack(layout(counters), kept)}, counters
end

-- The tallies of a hold, and their names, as they were read before: those of thousands of requests
-- are the same. They are not to be changed.
local known, most_known, knows = {}, 512, 0

local function tallies_of(packed)
  local found = known[packed]
  if found then return found end
  -- Older holds have them as they are.
  found = type(packed) == 'table' and packed or cjson.decode(packed)
  found.names = {}
  for i, tally in ipairs(found) do found.names[i] = tally[1] end
  if found == packed then return found end
  if knows == most_known then known, knows = {}, 0 end
  known[packed], knows = found, knows + 1
  return found
end

-- A hold: {ts_ms, tokens, micros, until_ms, tallies}; and where what is behind it begins.
local function read_hold(packed)
  local behind, hold = cmsgpack.unpack_one(packed)
  hold[5] = tallies_of(hold[5])
  return hold, behind + 1
end

-- What is kept of each tally, or false.
local function fetch(tallies) return redis.call('MGET', unpack(tallies.names)) end

local function pack(n, counters) return struct.pack(layout(counters), unpack(n, 1, 8 + 8 * counters)) end

local function new_tally(now, epoch)
  local second = math.floor(now / 1000)
  return {epoch, 0, 0, second, second, 0, 0, 0}
end

-- The place of a counter, which is likely the `number`th.
local function place_of(n, counters, tag, number)
  if number <= counters and n[8 * number + TAG] == tag then return 8 * number end
  for i = 1, counters do
    if n[8 * i + TAG] == tag then return 8 * i end
  end
end

-- One more counter; returns its place.
local function add_counter(state, tag, ends)
  state.counters = state.counters + 1
  local n, place = state.n, 8 * state.counters
  for i, value in ipairs({tag, 0, -1, 0, 0, 0, 0, ends}) do n[place + i] = value end
  return place
end

-- Whether what was spent is to be looked up.
local function due(n, place, now)
  local again = n[place + AGAIN]
  return n[place + SPENT] < 0 or again > 0 and again <= now
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

-- Begins a new second: what is older than the minute is counted no more. Which second it closes with
-- which tokens, and which it drops, is noted: of a request that is refused nothing is written.
local function turn(tally, state, now)
  local n, second = state.n, math.floor(now / 1000)
  if second <= n[SECOND] then return end
  local edge, dropped = second - 60, {}
  for past = n[OLDEST], math.min(edge, n[SECOND]) - 1 do dropped[#dropped + 1] = whole(past) end
  if n[SECOND] < edge then
    n[ALL], n[OLDEST] = 0, second
  else
    if #dropped > 0 then
      for _, tokens in ipairs(redis.call('HMGET', tally[1] .. ':seconds', unpack(dropped))) do
        n[ALL] = n[ALL] - (tokens or 0)
      end
    end
    n[OLDEST] = math.max(n[OLDEST], edge)
    if n[TOKENS] ~= 0 then state.closed = {whole(n[SECOND]), whole(n[TOKENS])} end
  end
  n[SECOND], n[TOKENS] = second, 0
  state.dropped, state.turned = dropped, true
  if tally[2] > 0 then n[REQUESTS] = requests_of(tally[1] .. ':log', now) end
end

-- What is counted of each owner of a hold: {n, counters; turned, closed, dropped where a second
-- began}.
local function look(hold, now, epoch)
  local states, kept = {}, fetch(hold[5])
  for i, tally in ipairs(hold[5]) do
    local n, counters = read(kept[i])
    local state = {n = n or new_tally(now, epoch), counters = counters}
    if tally[2] > 0 or tally[3] > 0 then turn(tally, state, now) end
    states[i] = state
  end
  return states
end

-- Writes a tally, which is kept until `ends` at least, and what became of its seconds.
local function write(name, state, ends)
  local n, dropped = state.n, state.dropped
  if ends > n[ENDS] then
    n[ENDS] = ends + STEP
    redis.call('SET', name, pack(n, state.counters), 'PXAT', whole(n[ENDS]))
  else
    redis.call('SET', name, pack(n, state.counters), 'KEEPTTL')
  end
  if state.closed then
    redis.call('HSET', name .. ':seconds', unpack(state.closed))
    redis.call('PEXPIRE', name .. ':seconds', 2 * MINUTE)
  end
  if dropped and #dropped > 0 then redis.call('HDEL', name .. ':seconds', unpack(dropped)) end
end
