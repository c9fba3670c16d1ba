-- Takes all calls for a worker, and leaves the one that says it hears no more.
-- KEYS: wake        ARGV: that call, its life in ms
-- Returns the calls.
local calls = redis.call('LRANGE', KEYS[1], 0, -1)
redis.call('DEL', KEYS[1])
redis.call('RPUSH', KEYS[1], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return calls
