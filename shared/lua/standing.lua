-- How many jobs are before each of some jobs that wait on a queue.
-- KEYS: queue        ARGV: boundary ms, id…
-- Returns one number per id; -1 for a job that does not wait, because it runs or is not there.
local time = redis.call('TIME')
local edge = time[1] * 1000 + math.floor(time[2] / 1000) - ARGV[1]
local found = {}
for i = 2, #ARGV do
  local score = redis.call('ZSCORE', KEYS[1], ARGV[i])
  local waits = score and tonumber(score) <= edge
  found[i - 1] = waits and redis.call('ZRANK', KEYS[1], ARGV[i]) or -1
end
return found
