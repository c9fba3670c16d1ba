-- Prolongs the leases on flights; one that nobody has is taken again.
-- KEYS: flight…        ARGV: lease ms, owner…
for i = 1, #KEYS do
  local owner = redis.call('GET', KEYS[i])
  if not owner or owner == ARGV[1 + i] then
    redis.call('SET', KEYS[i], ARGV[1 + i], 'PX', ARGV[1])
  end
end
return #KEYS
