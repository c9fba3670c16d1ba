-- Writes down what a job used whose answer is given though another worker has it, and settles its hold
-- unless that worker did.
-- KEYS: usage stream, count of lost events, record of the hold, holds
-- ARGV: id, usage event, events the stream has room for, tokens, micro-units
-- Returns 1, or 0 when there was no room for the event.
if redis.call('EXISTS', KEYS[3]) == 1 then
  settle({KEYS[3], KEYS[4]}, ARGV[1], nil, tonumber(ARGV[4]), tonumber(ARGV[5]))
  mark_settled(KEYS[3])
end
return record(KEYS[1], KEYS[2], ARGV[3], ARGV[2]) and 1 or 0
