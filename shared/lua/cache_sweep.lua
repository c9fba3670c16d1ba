-- Drops what has ended and what is over the room, some at a time.
-- KEYS: index…        ARGV: prefix, most bytes in all, how many at most
-- Returns {answers, bytes, dropped}.
local most = tonumber(ARGV[3])
local dropped = drop_ended(KEYS, ARGV[1], clock(), most)
dropped = dropped + drop_beyond(KEYS, ARGV[1], tonumber(ARGV[2]), most - dropped)
return {redis.call('HLEN', KEYS[2]), tonumber(redis.call('GET', KEYS[1]) or 0), dropped}
