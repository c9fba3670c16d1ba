-- The index of kept answers. `index` is four keys: bytes in all, notes by digest, last use, end;
-- `prefix` that of the entries. After clock.lua.
-- A note is {bytes, kept at ms, ends at ms, project, model, version of an adapter or ''}.
local function drop(index, prefix, digest)
  local note = redis.call('HGET', index[2], digest)
  if note then
    redis.call('DECRBY', index[1], cmsgpack.unpack(note)[1])
    redis.call('HDEL', index[2], digest)
  end
  redis.call('ZREM', index[3], digest)
  redis.call('ZREM', index[4], digest)
  redis.call('UNLINK', prefix .. digest)
end

local function drop_ended(index, prefix, now, most)
  local ended = redis.call('ZRANGE', index[4], '-inf', now, 'BYSCORE', 'LIMIT', 0, most)
  for _, digest in ipairs(ended) do drop(index, prefix, digest) end
  return #ended
end

local function drop_beyond(index, prefix, room, most)
  local dropped = 0
  while dropped < most and tonumber(redis.call('GET', index[1]) or 0) > room do
    local oldest = redis.call('ZRANGE', index[3], 0, 0)
    if #oldest == 0 then
      redis.call('SET', index[1], 0)
      break
    end
    drop(index, prefix, oldest[1])
    dropped = dropped + 1
  end
  return dropped
end
