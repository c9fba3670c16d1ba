-- Says what was spent of a budget in a period, unless that is known or something was settled since.
-- KEYS: counter        ARGV: epoch, generation, tokens, micro-units
-- Returns 1 if it is known now, 0 if it must be found out again.
local kept = redis.call('GET', KEYS[1])
if not kept then return 0 end
local c = cmsgpack.unpack(kept)
if c[3] >= 0 then return 1 end
if c[1] ~= ARGV[1] or whole(c[2]) ~= ARGV[2] then return 0 end
c[3], c[4] = tonumber(ARGV[3]), tonumber(ARGV[4])
redis.call('SET', KEYS[1], cmsgpack.pack(c), 'KEEPTTL')
return 1
