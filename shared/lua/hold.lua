-- What requests may use up at most, and what becomes of it. After tally.lua.
-- A hold is what shared.wire.hold.Hold describes. Its record, kept beside the job, is the hold with a
-- MARK for each tally behind it: its epoch, and the second of its tokens or 0. Of a tally with
-- another epoch, which was forgotten in between, nothing is held.
local FIRST_LOOK = 10000
local MARK, MARK_SIZE = '<lI4', 12

-- Takes what a job holds from every tally, and writes them and its record. `names`: of the record,
-- and of the sorted set of holds by the time of the next look at them. `counted`: its tokens are
-- counted in the present second.
local function reserve(names, id, packed, hold, states, counted, now)
  for i, tally in ipairs(hold[5]) do
    local state = states[i]
    local n, ends = state.n, now + 2 * MINUTE
    if tally[4] > 0 then
      n[OPEN] = n[OPEN] + 1
      ends = math.max(ends, hold[4] + MINUTE)
    end
    for j, draw in ipairs(tally[5]) do
      local at = place_of(n, state.counters, draw[1], j) or add_counter(state, draw[1], draw[4])
      n[at + HELD], n[at + HELD_MICROS] = n[at + HELD] + hold[2], n[at + HELD_MICROS] + hold[3]
      if n[at + UNTIL] - now < RENEWED then n[at + UNTIL] = math.max(n[at + UNTIL], draw[4]) end
      ends = math.max(ends, n[at + UNTIL])
    end
    packed = packed .. struct.pack(MARK, n[EPOCH], counted and n[SECOND] or 0)
    write(tally[1], state, ends)
  end
  redis.call('SET', names[1], packed)
  redis.call('ZADD', names[2], whole(math.min(hold[4], now + FIRST_LOOK)), id)
end

-- When the request that it is of will have ended: ms.
local function ends_of(record)
  return read_hold(record)[4]
end

-- Notes that a hold was settled, and the line of the ledger written, though its job may still end
-- elsewhere: that is not to count again.
local function mark_settled(name) redis.call('SET', name .. ':settled', 1, 'PX', 10 * MINUTE) end

-- Gives back what a job held of a tally's limits, and counts `more` tokens where it held them.
local function settle_limits(tally, n, second, more)
  if tally[4] > 0 then n[OPEN] = math.max(0, n[OPEN] - 1) end
  if tally[3] == 0 or second == 0 then return end
  if n[SECOND] == second then
    n[TOKENS], n[ALL] = n[TOKENS] + more, n[ALL] + more
  elseif redis.call('HEXISTS', tally[1] .. ':seconds', whole(second)) == 1 then
    n[ALL] = n[ALL] + more
    redis.call('HINCRBY', tally[1] .. ':seconds', whole(second), whole(more))
  end
end

-- Turns a hold into what was used. Without a record only what was used is counted: Redis forgot it.
local function settle(names, id, packed, tokens, micros)
  local record = redis.call('GETDEL', names[1])
  if not record and redis.call('EXISTS', names[1] .. ':settled') == 1 then return end
  if record then redis.call('ZREM', names[2], id) end
  local hold, behind = read_hold(record or packed)
  local kept = fetch(hold[5])
  for i, tally in ipairs(hold[5]) do
    local n, counters = read(kept[i])
    if n then
      local epoch, second
      if record then epoch, second = struct.unpack(MARK, record, behind + MARK_SIZE * (i - 1)) end
      local ours = n[EPOCH] == epoch
      if ours then settle_limits(tally, n, second, tokens - hold[2]) end
      for j, draw in ipairs(tally[5]) do
        local at = place_of(n, counters, draw[1], j)
        if at then
          if ours then
            n[at + HELD], n[at + HELD_MICROS] = n[at + HELD] - hold[2], n[at + HELD_MICROS] - hold[3]
          end
          if n[at + SPENT] >= 0 then
            n[at + SPENT], n[at + MICROS] = n[at + SPENT] + tokens, n[at + MICROS] + micros
          end
          n[at + GENERATION] = n[at + GENERATION] + 1
        end
      end
      redis.call('SET', tally[1], pack(n, counters), 'KEEPTTL')
    end
  end
end
