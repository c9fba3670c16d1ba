-- Whether limits and budgets let a request in, which is counted then. After tally.lua.

-- The seconds whose tokens are counted, in order, and these.
local function seconds_of(tally, state)
  local n, flat = state.n, redis.call('HGETALL', tally[1] .. ':seconds')
  for _, text in ipairs(state.closed or {}) do flat[#flat + 1] = text end
  local seconds, amounts = {n[SECOND]}, {[n[SECOND]] = n[TOKENS]}
  for i = 1, #flat, 2 do
    local second = tonumber(flat[i])
    if second >= n[OLDEST] and not amounts[second] then
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

-- How many ms it takes until nothing is left of a tally's requests, and of its tokens.
local function rest_of(tally, state, now)
  local newest = tally[2] > 0 and redis.call('LINDEX', tally[1] .. ':log', 0)
  local last = 0
  if tally[3] > 0 then
    local seconds, amounts = seconds_of(tally, state)
    for _, second in ipairs(seconds) do
      if amounts[second] > 0 then last = (second + 61) * 1000 - now end
    end
  end
  return newest and newest + MINUTE - now or 0, last
end

-- What of a tally's limits is in the way of a request: 1 requests | 2 tokens | 3 concurrent, used, ms
-- until there is room.
local function check_tally(tally, state, need, now)
  local n = state.n
  if tally[2] > 0 and n[REQUESTS] >= tally[2] then
    local log = tally[1] .. ':log'
    n[REQUESTS] = requests_of(log, now)
    if n[REQUESTS] >= tally[2] then
      return 1, n[REQUESTS], redis.call('LINDEX', log, tally[2] - 1) + MINUTE - now
    end
  end
  if tally[3] > 0 and n[ALL] + need > tally[3] then
    local seconds, amounts = seconds_of(tally, state)
    return 2, n[ALL], until_free(seconds, amounts, n[ALL] + need - tally[3], now)
  end
  if tally[4] > 0 and n[OPEN] >= tally[4] then return 3, n[OPEN], 1000 end
end

-- What limit is in the way of a request, as {number, what check_tally returns}.
local function check_limits(hold, states, now)
  for i, tally in ipairs(hold[5]) do
    local what, used, frees = check_tally(tally, states[i], hold[2], now)
    if what then return {i, what, used, frees} end
  end
end

-- The first budget in the way: {'unknown'}, or {'spent', number, 1 tokens | 2 micros, spent, held};
-- else nil, and whether one of them is to be looked up again, which stops nobody.
local function check_budgets(hold, states, now)
  local over, late
  local number = 0
  for i, tally in ipairs(hold[5]) do
    local n, counters = states[i].n, states[i].counters
    for j, draw in ipairs(tally[5]) do
      local place = place_of(n, counters, draw[1], j)
      number = number + 1
      if not place or n[place + SPENT] < 0 then return {'unknown'} end
      if due(n, place, now) then late = true end
      for kind = 1, 2 do
        local limit, need = draw[kind + 1], hold[kind + 1]
        local spent, held = n[place + kind + 2], n[place + kind + 4]
        if limit >= 0 and need > 0 and spent + held + need > limit and not over then
          over = {'spent', number, kind, spent, held}
        end
      end
    end
  end
  return over, late
end

-- How each tally stands, in one row: requests, ms until none are left, tokens, the same.
local function standing_of(hold, states, now)
  local standing = {}
  for i, tally in ipairs(hold[5]) do
    local n = states[i].n
    local requests_ms, tokens_ms = rest_of(tally, states[i], now)
    local at = 4 * i - 3
    standing[at], standing[at + 1], standing[at + 2], standing[at + 3] =
      n[REQUESTS], requests_ms, n[ALL], tokens_ms
  end
  return standing
end

-- The same of a request that was counted just now: requests and tokens, behind what is there.
local function tell(told, states)
  for _, state in ipairs(states) do
    told[#told + 1] = state.n[REQUESTS]
    told[#told + 1] = state.n[ALL]
  end
  return told
end

-- Counts a request, and the tokens that it may use unless it takes none; `write` is to follow.
local function count(hold, states, tokens, now)
  for i, tally in ipairs(hold[5]) do
    local state = states[i]
    local n = state.n
    if tally[2] > 0 then
      local log = tally[1] .. ':log'
      redis.call('LPUSH', log, whole(now))
      n[REQUESTS] = n[REQUESTS] + 1
      -- Once a second is enough.
      if state.turned or n[REQUESTS] == 1 then redis.call('PEXPIRE', log, 2 * MINUTE) end
    end
    if tally[3] > 0 and tokens then
      n[TOKENS], n[ALL] = n[TOKENS] + tokens, n[ALL] + tokens
    end
  end
end
