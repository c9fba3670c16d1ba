-- Says what was spent of a budget in a period, unless that is known or something was settled since.
-- KEYS: counter        ARGV: epoch, generation, tokens, micro-units, ms until it is to be looked up again or 0,
--                      1: also if something was settled since, where what was spent is known
-- What is counted already stays: an event that found no room on its way to the ledger is in it.
-- Returns 1 if it is known now, 0 if it must be found out again.
local kept = redis.call('GET', KEYS[1])
if not kept then return 0 end
local c = cmsgpack.unpack(kept)
local now = clock()
if not due(c, now) then return 1 end
if c[1] ~= ARGV[1] then return 0 end
if whole(c[2]) ~= ARGV[2] and (c[3] < 0 or ARGV[6] ~= '1') then return 0 end
local again = tonumber(ARGV[5])
c[7] = c[3] < 0 and again > 0 and now + again or 0
c[3], c[4] = math.max(c[3], tonumber(ARGV[3])), math.max(c[4], tonumber(ARGV[4]))
redis.call('SET', KEYS[1], cmsgpack.pack(c), 'KEEPTTL')
return 1
