-- Appends usage events as far as there is room; those that find none are counted.
-- KEYS: usage stream, count of lost events        ARGV: events the stream has room for, event…
-- Returns how many were appended.
local room = tonumber(ARGV[1]) - redis.call('XLEN', KEYS[1])
local given = #ARGV - 1
local taken = math.max(0, math.min(room, given))
for number = 1, taken do redis.call('XADD', KEYS[1], '*', 'e', ARGV[number + 1]) end
if taken < given then redis.call('INCRBY', KEYS[2], given - taken) end
return taken
