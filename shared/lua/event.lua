-- The line of the ledger that a request leaves.

-- Writes a usage event down; false where the stream has no room for it.
local function record(stream, lost, room, event)
  if redis.call('XLEN', stream) >= tonumber(room) then
    redis.call('INCR', lost)
    return false
  end
  redis.call('XADD', stream, '*', 'e', event)
  return true
end

-- What last words say: usage event, tokens, micro-units.
local function read_words(said)
  if not said then return nil, 0, 0 end
  local tokens, micros, event = string.match(said, '^(%d+) (%d+) (.*)$')
  return event, tonumber(tokens), tonumber(micros)
end
