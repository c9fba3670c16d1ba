-- Keeps a computed answer, unless it was purged while it was computed, and tells who waits for it.
-- Room is made first: what has ended goes, then what was not used for longest.
-- KEYS: index…, entry, flight, purge…
-- ARGV: prefix, digest, owner, answer, when it was begun in ms, project, model, version, life ms,
--       most bytes in all, bytes an entry takes beyond the answer, channel, ms for which nobody leads when it
--       is not kept
-- Returns {1 kept | 0 not, how many had to go for it}.
local now = clock()
local size = #ARGV[4] + ARGV[11]
local room = ARGV[10] - size
local keeps = room >= 0
for i = 7, #KEYS do
  local purged = redis.call('GET', KEYS[i])
  if purged and tonumber(purged) >= tonumber(ARGV[5]) then keeps = false end
end
local evicted = 0
if keeps then
  drop(KEYS, ARGV[1], ARGV[2])
  drop_ended(KEYS, ARGV[1], now, 256)
  evicted = drop_beyond(KEYS, ARGV[1], room, math.huge)
  local ends = now + ARGV[9]
  -- Should no gateway be there to drop it, Redis does, a minute late so that the books agree.
  redis.call('SET', KEYS[5], ARGV[4], 'PX', ARGV[9] + 60000)
  redis.call('HSET', KEYS[2], ARGV[2], cmsgpack.pack({size, now, ends, ARGV[6], ARGV[7], ARGV[8]}))
  redis.call('ZADD', KEYS[3], now, ARGV[2])
  redis.call('ZADD', KEYS[4], ends, ARGV[2])
  redis.call('INCRBY', KEYS[1], size)
end
if ARGV[3] ~= '' and redis.call('GET', KEYS[6]) == ARGV[3] then
  if keeps then
    redis.call('DEL', KEYS[6])
  else
    redis.call('SET', KEYS[6], '-', 'PX', ARGV[13])
  end
  redis.call('PUBLISH', ARGV[12], KEYS[6])
end
return {keeps and 1 or 0, evicted}
