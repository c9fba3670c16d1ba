-- Counts a request that needs no job against the requests a minute of its caller.
-- ARGV: hold
-- Returns {requests and tokens of each tally with it}, or {how they stand, what is in the way} and
-- counts nothing.
local now, epoch = clock()
local hold = read_hold(ARGV[1])
local states = look(hold, now, epoch)
local refused = check_limits(hold, states, now)
if refused then return {standing_of(hold, states, now), refused} end
count(hold, states, nil, now)
for i, tally in ipairs(hold[5]) do write(tally[1], states[i], now + 2 * MINUTE) end
return tell({}, states)
