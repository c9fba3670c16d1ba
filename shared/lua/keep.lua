-- Takes models of a lane that no living worker keeps, in order, as far as they fit.
-- KEYS: keepers of the lane, workers        ARGV: worker, bytes free, ms since the last heartbeat
--                                                 of the living, life ms, then models and bytes
-- Returns two lists: the models that are this worker's now, and those that are nobody's.
local time = redis.call('TIME')
local since = time[1] * 1000 + math.floor(time[2] / 1000) - ARGV[3]
local room = tonumber(ARGV[2])
local ours, left = {}, {}
for i = 5, #ARGV, 2 do
  local keeper = redis.call('HGET', KEYS[1], ARGV[i])
  local theirs = false
  if keeper and keeper ~= ARGV[1] then
    local beat = redis.call('ZSCORE', KEYS[2], keeper)
    theirs = beat and tonumber(beat) >= since
  end
  local size = tonumber(ARGV[i + 1])
  if theirs then
    -- Its keeper beat lately.
  elseif size > room then
    left[#left + 1] = ARGV[i]
  else
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[1])
    room = room - size
    ours[#ours + 1] = ARGV[i]
  end
end
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return {ours, left}
