-- Says what was spent of a budget in a period, unless that is known or something was settled since.
-- KEYS: tally        ARGV: tag of the counter, epoch, generation, tokens, micro-units, ms until it is to be
--                    looked up again or 0, 1: also if something was settled since, where what was spent is known
-- What is counted already stays: an event that found no room on its way to the ledger is in it.
-- Returns 1 if it is known now, 0 if it must be found out again.
local n, counters = read(redis.call('GET', KEYS[1]))
local at = n and place_of(n, counters, tonumber(ARGV[1]), 1)
if not at then return 0 end
local now = clock()
if not due(n, at, now) then return 1 end
if whole(n[EPOCH]) ~= ARGV[2] then return 0 end
if whole(n[at + GENERATION]) ~= ARGV[3] and (n[at + SPENT] < 0 or ARGV[7] ~= '1') then return 0 end
local again = tonumber(ARGV[6])
n[at + AGAIN] = n[at + SPENT] < 0 and again > 0 and now + again or 0
n[at + SPENT] = math.max(n[at + SPENT], tonumber(ARGV[4]))
n[at + MICROS] = math.max(n[at + MICROS], tonumber(ARGV[5]))
redis.call('SET', KEYS[1], pack(n, counters), 'KEEPTTL')
return 1
