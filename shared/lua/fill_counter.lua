-- Says what was spent of a budget in a period, unless that is known or something was settled since.
-- KEYS: counter        ARGV: epoch, generation, tokens, micro-units
-- Returns 1 if it is known now, 0 if it must be found out again.
local c = redis.call('HMGET', KEYS[1], 'e', 'g', 'st')
if c[3] then return 1 end
if c[1] ~= ARGV[1] or (c[2] or '0') ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], 'st', ARGV[3], 'sm', ARGV[4])
return 1
