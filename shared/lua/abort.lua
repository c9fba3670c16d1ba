-- Cancels a job: drops it while it waits, settles its hold to what earlier attempts gave, and writes
-- that down; else tells the worker that holds its lease, and keeps that for when the worker is dead.
-- KEYS: queue, job, in-progress, retry, abort set, usage stream, count of lost events,
--       record of the hold, holds, last words
-- ARGV: id, message, message life ms, control list prefix, usage event or '', events the stream has
--       room for, tokens, micro-units, last words, life of these in ms
-- Returns 2 dropped, 1 told, 0 not there, 3 dropped without room for the event.
local owner = redis.call('GET', KEYS[3])
if owner then
  local time = redis.call('TIME')
  redis.call('ZADD', KEYS[5], time[1] * 1000 + math.floor(time[2] / 1000), ARGV[1])
  local list = ARGV[4] .. owner
  redis.call('RPUSH', list, ARGV[2])
  redis.call('PEXPIRE', list, ARGV[3])
  local said, more = read_words(redis.call('GET', KEYS[10]))
  if ARGV[5] ~= '' and (not said or more < tonumber(ARGV[7])) then
    redis.call('SET', KEYS[10], ARGV[9], 'PX', ARGV[10])
  end
  return 1
end
local there = redis.call('DEL', KEYS[2]) + redis.call('EXISTS', KEYS[8]) > 0
redis.call('DEL', KEYS[4])
redis.call('ZREM', KEYS[1], ARGV[1])
if not there then return 0 end
local event, tokens, micros = ARGV[5], tonumber(ARGV[7]), tonumber(ARGV[8])
local said, more, dearer = read_words(redis.call('GETDEL', KEYS[10]))
if said and more > tokens then event, tokens, micros = said, more, dearer end
if redis.call('EXISTS', KEYS[8]) == 1 then
  settle({KEYS[8], KEYS[9]}, ARGV[1], nil, tokens, micros)
end
if event ~= '' and not record(KEYS[6], KEYS[7], ARGV[6], event) then return 3 end
return 2
