-- An answer that is kept, or whose turn it is to compute it.
-- KEYS: index…, entry, flight
-- ARGV: prefix, digest, owner or '' to lead nobody, lease ms, oldest ms that will do (-1: any,
--       0: none)
-- Returns {what, now ms} and for a hit the answer and its age in ms.
-- What: 0 compute, nobody waits; 1 hit; 2 compute, others wait; 3 another computes it.
local now = clock()
local oldest = tonumber(ARGV[5])
local note = oldest ~= 0 and redis.call('HGET', KEYS[2], ARGV[2])
if note then
  local kept = cmsgpack.unpack(note)
  local age = now - kept[2]
  local data = kept[3] > now and (oldest < 0 or age <= oldest) and redis.call('GET', KEYS[5])
  if data then
    redis.call('ZADD', KEYS[3], now, ARGV[2])
    return {1, now, data, age}
  end
  if kept[3] <= now or redis.call('EXISTS', KEYS[5]) == 0 then drop(KEYS, ARGV[1], ARGV[2]) end
end
if ARGV[3] == '' then return {0, now} end
if redis.call('SET', KEYS[6], ARGV[3], 'PX', ARGV[4], 'NX') then return {2, now} end
if redis.call('GET', KEYS[6]) == '-' then return {0, now} end
return {3, now}
