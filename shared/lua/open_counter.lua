-- Begins to find out what was spent of a budget in a period. What is settled meanwhile changes the
-- generation, so that it is found out again.
-- KEYS: counter        ARGV: ms when it may be forgotten
-- Returns {epoch, generation, 1 if it is known already}.
local time = redis.call('TIME')
redis.call('HSETNX', KEYS[1], 'e', time[1] .. time[2])
redis.call('PEXPIREAT', KEYS[1], ARGV[1])
local c = redis.call('HMGET', KEYS[1], 'e', 'g', 'st')
return {c[1], c[2] or '0', c[3] and 1 or 0}
