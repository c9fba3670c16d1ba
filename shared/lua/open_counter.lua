-- Begins to find out what was spent of a budget in a period. What is settled meanwhile changes the
-- generation, so that it is found out again.
-- KEYS: counter        ARGV: ms when it may be forgotten
-- Returns {epoch, generation, 1 if it is known already}.
local now, epoch = clock()
local kept = redis.call('GET', KEYS[1])
local c = kept and cmsgpack.unpack(kept) or new_counter(epoch)
redis.call('SET', KEYS[1], cmsgpack.pack(c), 'PXAT', ARGV[1])
return {c[1], whole(c[2]), due(c, now) and 0 or 1}
