-- Counts a request that needs no job against the requests a minute of its caller.
-- ARGV: hold
-- Returns {how its limits stand}, or {that, what is in the way} and counts nothing.
local now = clock()
local hold = cmsgpack.unpack(ARGV[1])
local standing, refused, there = check_limits(hold, now)
if refused then return {standing, refused} end
count(hold, nil, standing, there, now)
return {standing}
