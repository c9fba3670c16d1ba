-- The text of a whole number: Redis would write round ones with an exponent.
local function whole(number) return string.format('%d', number) end

-- Now in ms, and in microseconds.
local function clock()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000), time[1] * 1000000 + time[2]
end
