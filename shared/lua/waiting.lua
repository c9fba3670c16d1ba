-- How many jobs wait on each queue, and for how long the first in line is overdue.
-- KEYS: queue…        ARGV: horizon ms, boundary ms
-- Returns a flat list: waiting, overdue ms (negative while its class's slack lasts; 0 when none).
-- Jobs whose lease ran out wait too, at the head of the line.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local found = {}
for _, queue in ipairs(KEYS) do
  local edge = now - ARGV[2]
  local waiting = redis.call('ZCOUNT', queue, '-inf', edge)
  local dropped = redis.call('ZRANGE', queue, '(' .. edge, now, 'BYSCORE', 'LIMIT', 0, 1, 'WITHSCORES')
  local first = redis.call('ZRANGE', queue, '-inf', edge, 'BYSCORE', 'LIMIT', 0, 1, 'WITHSCORES')
  local overdue = 0
  if #dropped > 0 then
    waiting = waiting + redis.call('ZCOUNT', queue, '(' .. edge, now)
    overdue = math.max(0, now - tonumber(dropped[2]))
  end
  if #first > 0 then
    local late = now - (tonumber(first[2]) + ARGV[1])
    if #dropped == 0 or late > overdue then overdue = late end
  end
  found[#found + 1] = waiting
  found[#found + 1] = math.floor(overdue)
end
return found
