-- Begins to find out what was spent of a budget in a period. What is settled meanwhile changes the
-- generation, so that it is found out again. Counters that are over are forgotten.
-- KEYS: tally        ARGV: tag of the counter, ms when it may be forgotten
-- Returns {epoch, generation, 1 if it is known already}.
local now, epoch = clock()
local tag = tonumber(ARGV[1])
local n, counters = read(redis.call('GET', KEYS[1]))
n = n or new_tally(now, epoch)
local at = place_of(n, counters, tag, 1)
local state = {n = {unpack(n, 1, 8)}, counters = 0}
for i = 1, counters do
  if n[8 * i + UNTIL] > now or 8 * i == at then
    state.counters = state.counters + 1
    for part = 1, 8 do state.n[8 * state.counters + part] = n[8 * i + part] end
  end
end
n = state.n
at = place_of(n, state.counters, tag, 1) or add_counter(state, tag, tonumber(ARGV[2]))
write(KEYS[1], state, n[at + UNTIL])
return {whole(n[EPOCH]), whole(n[at + GENERATION]), due(n, at, now) and 0 or 1}
