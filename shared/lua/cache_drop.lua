-- The index of kept answers, for the scripts that begin with this one.
-- KEYS 1-4: bytes in all, notes by digest, last use, end        ARGV 1: prefix of the entries
-- A note is {bytes, kept at ms, ends at ms, project, model, version of an adapter or ''}.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local function drop(digest)
  local note = redis.call('HGET', KEYS[2], digest)
  if note then
    redis.call('DECRBY', KEYS[1], cmsgpack.unpack(note)[1])
    redis.call('HDEL', KEYS[2], digest)
  end
  redis.call('ZREM', KEYS[3], digest)
  redis.call('ZREM', KEYS[4], digest)
  redis.call('UNLINK', ARGV[1] .. digest)
end

local function drop_ended(most)
  local ended = redis.call('ZRANGE', KEYS[4], '-inf', now, 'BYSCORE', 'LIMIT', 0, most)
  for _, digest in ipairs(ended) do drop(digest) end
  return #ended
end

local function drop_beyond(room, most)
  local dropped = 0
  while dropped < most and tonumber(redis.call('GET', KEYS[1]) or 0) > room do
    local oldest = redis.call('ZRANGE', KEYS[3], 0, 0)
    if #oldest == 0 then
      redis.call('SET', KEYS[1], 0)
      break
    end
    drop(oldest[1])
    dropped = dropped + 1
  end
  return dropped
end
