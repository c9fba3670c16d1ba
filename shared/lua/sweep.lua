-- Releases holds whose job is gone or whose time is over; looks at those that are due.
-- KEYS: holds, usage stream, count of lost events
-- ARGV: prefixes (record of a hold, job, last words), most to look at, events the stream has room for
-- Returns how many were released.
local now = clock()
local released = 0
for _, id in ipairs(redis.call('ZRANGE', KEYS[1], '-inf', now, 'BYSCORE', 'LIMIT', 0, ARGV[4])) do
  local names = {ARGV[1] .. id, KEYS[1]}
  local kept = redis.call('GET', names[1])
  local ends = kept and ends_of(kept)
  if not kept then
    redis.call('ZREM', KEYS[1], id)
  elseif redis.call('EXISTS', ARGV[2] .. id) == 1 and now < ends then
    redis.call('ZADD', KEYS[1], whole(math.min(ends, now + FIRST_LOOK)), id)
  else
    local said, tokens, micros = read_words(redis.call('GETDEL', ARGV[3] .. id))
    settle(names, id, nil, tokens, micros)
    if said then
      mark_settled(names[1])
      record(KEYS[2], KEYS[3], ARGV[5], said)
    end
    released = released + 1
  end
end
return released
