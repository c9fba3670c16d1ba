-- Takes due jobs for a worker: first those whose lease ran out, then the waiting ones in order.
-- A cancelled one whose worker died is dropped; its last words are written down.
-- KEYS: queue…        ARGV: worker, lease ms, boundary ms, prefixes (job, in-progress, retry),
--                           abort set, prefixes (record of a hold, last words), holds, usage stream,
--                           count of lost events, events the stream has room for, then one count
--                           of free places per queue
-- Returns a flat list: queue number, id, attempt, job bytes.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local taken = {}
local function bury(id)
  local said, tokens, micros = read_words(redis.call('GETDEL', ARGV[9] .. id))
  if redis.call('EXISTS', ARGV[8] .. id) == 1 then
    settle({ARGV[8] .. id, ARGV[10]}, id, nil, tokens, micros)
  end
  if said then record(ARGV[11], ARGV[12], ARGV[13], said) end
end
for q = 1, #KEYS do
  local free = tonumber(ARGV[13 + q])
  local edge = now - ARGV[3]
  local ranges = {{'(' .. edge, now}, {'-inf', edge}}
  for number, range in ipairs(ranges) do
    local offset, leased = 0, 2 - number
    while free > 0 do
      local ids = redis.call('ZRANGE', KEYS[q], range[1], range[2], 'BYSCORE', 'LIMIT', offset, free)
      if #ids == 0 then break end
      for _, id in ipairs(ids) do
        local lease = ARGV[5] .. id
        local job = redis.call('GET', ARGV[4] .. id)
        if redis.call('EXISTS', lease) == 1 then
          offset = offset + 1
        elseif not job or redis.call('ZSCORE', ARGV[7], id) then
          redis.call('ZREM', KEYS[q], id)
          redis.call('ZREM', ARGV[7], id)
          redis.call('DEL', ARGV[4] .. id, ARGV[6] .. id)
          bury(id)
        else
          local attempt = (redis.call('GET', ARGV[6] .. id) or leased) + 1
          if attempt > 1 then
            redis.call('SET', ARGV[6] .. id, whole(attempt), 'EX', 88400)
          else
            mark_first(ARGV[6] .. id, redis.call('PTTL', ARGV[4] .. id), tonumber(ARGV[3]))
          end
          redis.call('SET', lease, ARGV[1], 'PX', ARGV[2])
          redis.call('ZADD', KEYS[q], now + ARGV[2], id)
          free = free - 1
          taken[#taken + 1] = q
          taken[#taken + 1] = id
          taken[#taken + 1] = attempt
          taken[#taken + 1] = job
        end
      end
    end
  end
end
return taken
