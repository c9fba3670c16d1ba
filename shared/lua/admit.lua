-- Counts a request that needs no job against the requests a minute of its caller.
-- ARGV: hold
-- Returns {how its limits stand}, or {that, what is in the way} and counts nothing.
local now = clock()
local hold = cmsgpack.unpack(ARGV[1])
local standing, refused, there = check_limits(hold, now)
if refused then return {standing, refused} end
for i, limit in ipairs(hold[5]) do log_request(limit, standing[i], there[i], now) end
return {standing}
