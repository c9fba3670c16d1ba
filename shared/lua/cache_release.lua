-- Ends a flight that brought nothing: the next one takes over, or each computes for himself.
-- KEYS: flight        ARGV: owner, ms for which nobody leads, 0: at once, channel
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] == '0' then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], '-', 'PX', ARGV[2])
end
redis.call('PUBLISH', ARGV[3], KEYS[1])
return 1
