-- Drops the answers of a project, of a model or version, or of both together, some at a time, and notes when,
-- so that what is being computed now is not kept afterwards.
-- KEYS: index…, purge        ARGV: prefix, cursor, how many to look at, project or '', model or '',
--                                  ms for which the purge is remembered
-- Returns {next cursor, dropped}.
local now = clock()
redis.call('SET', KEYS[5], whole(now), 'PX', ARGV[6])
local found = redis.call('HSCAN', KEYS[2], ARGV[2], 'COUNT', ARGV[3])
local dropped = 0
for i = 1, #found[2], 2 do
  local note = cmsgpack.unpack(found[2][i + 1])
  local ours = ARGV[4] == '' or note[4] == ARGV[4]
  if ours and (ARGV[5] == '' or note[5] == ARGV[5] or note[6] == ARGV[5]) then
    drop(KEYS, ARGV[1], found[2][i])
    dropped = dropped + 1
  end
end
return {found[1], dropped}
