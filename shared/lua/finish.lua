-- Removes a job that has ended, if the lease is still this worker's, settles its hold to what it
-- used, and writes that down.
-- KEYS: queue, job, in-progress, retry, abort set, usage stream, count of lost events,
--       record of the hold, holds, last words
-- ARGV: id, worker, usage event or '', events the stream has room for, hold or '', tokens, micro-units,
--       1: this worker does not know what others did, whose last words count
-- Returns 1, 0 when the lease was lost, or 2 when there was no room for the event.
if redis.call('GET', KEYS[3]) ~= ARGV[2] then return 0 end
local event, tokens, micros = ARGV[3], tonumber(ARGV[6]), tonumber(ARGV[7])
if ARGV[8] == '1' and event ~= '' then
  local said, more, dearer = read_words(redis.call('GET', KEYS[10]))
  if said then event, tokens, micros = said, more, dearer end
end
redis.call('DEL', KEYS[2], KEYS[3], KEYS[4], KEYS[10])
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[5], ARGV[1])
if ARGV[5] ~= '' then settle({KEYS[8], KEYS[9]}, ARGV[1], ARGV[5], tokens, micros) end
if event ~= '' and not record(KEYS[6], KEYS[7], ARGV[4], event) then return 2 end
return 1
