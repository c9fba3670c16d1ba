-- Removes a job that has ended, if the lease is still this worker's, settles its hold to what it
-- used, and writes that down.
-- KEYS: queue, job, in-progress, retry, abort set, usage stream, count of lost events,
--       record of the hold, holds
-- ARGV: id, worker, usage event or '', events the stream has room for, hold or '', tokens, micro-units
-- Returns 1, 0 when the lease was lost, or 2 when there was no room for the event.
if redis.call('GET', KEYS[3]) ~= ARGV[2] then return 0 end
redis.call('DEL', KEYS[2], KEYS[3], KEYS[4])
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[5], ARGV[1])
if ARGV[5] ~= '' then
  settle({KEYS[8], KEYS[9]}, ARGV[1], ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7]))
end
if ARGV[3] == '' then return 1 end
if redis.call('XLEN', KEYS[6]) >= tonumber(ARGV[4]) then
  redis.call('INCR', KEYS[7])
  return 2
end
redis.call('XADD', KEYS[6], '*', 'e', ARGV[3])
return 1
