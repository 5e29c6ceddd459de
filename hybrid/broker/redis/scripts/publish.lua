-- Append one publication to a channel's log and announce it: the one atomic step of `Broker.append`.
--
-- KEYS  1 the channel's head (hash)   2 its log (stream)   3 the idempotency key (string), where one was given
-- ARGV  1 where it is announced       2 PUBLISH or SPUBLISH
--       3 data   4 type, or ""        5 "b" for binary data, "j" otherwise
--       6 the epoch of a log that has to begin            7 the tag, eight hex digits
--       8 publications kept           9 their age in ms   10 how long the head outlives them, in ms
--       11 digest of the body         12 how long the key is remembered, in ms
--       13 ms to add to the server's clock (tests only; else 0)
-- Returns {0 new | 1 repeated, epoch, offset, tag}, or {2} for a key that came with another body.
--
-- The head: e epoch, o offset, t tag, n and l the bounds of the last append, u when it is forgotten, x when the oldest
-- entry is due. All times are those of the server's clock, so that nodes need not agree on theirs.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000) + tonumber(ARGV[13])
local head, log, key = KEYS[1], KEYS[2], KEYS[3]

if key then
  local known = redis.call('HMGET', key, 'd', 'u', 'e', 'o', 't')
  if known[1] and tonumber(known[2]) > now then
    if known[1] ~= ARGV[11] then return {2} end
    return {1, known[3], known[4], known[5]}
  end
end

local size, ttl, meta_ttl = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])
local old = redis.call('HMGET', head, 'e', 'o', 'u', 'l', 'x')
local epoch, offset = old[1], tonumber(old[2])
local age, due = old[4], tonumber(old[5] or 0)
if not epoch or tonumber(old[3]) <= now then
  redis.call('DEL', head, log)
  epoch, offset, age, due = ARGV[6], 0, false, 0
end
offset = string.format('%.0f', offset + 1)

if size > 0 and ttl > 0 then
  redis.call('XADD', log, 'MAXLEN', '=', size, offset .. '-' .. tonumber(ARGV[7], 16),
    'a', now, 'd', ARGV[3], 't', ARGV[4], 'k', ARGV[5])
  redis.call('PEXPIRE', log, ttl)
  if due == 0 or (age and tonumber(age) ~= ttl) then due = now end
  if due <= now then
    -- Let go what is too old, a few at a time: whatever is left over is not given to readers anyway.
    for _ = 1, 8 do
      local oldest = redis.call('XRANGE', log, '-', '+', 'COUNT', 8)
      local fresh = nil
      for _, entry in ipairs(oldest) do
        due = tonumber(entry[2][2]) + ttl
        if due > now then fresh = entry[1] break end
      end
      if fresh then
        redis.call('XTRIM', log, 'MINID', '=', fresh)
        break
      end
      for _, entry in ipairs(oldest) do redis.call('XDEL', log, entry[1]) end
    end
  end
else
  redis.call('DEL', log)
  due = 0
end

redis.call('HSET', head, 'e', epoch, 'o', offset, 't', ARGV[7], 'n', ARGV[8], 'l', ARGV[9],
  'u', string.format('%.0f', now + meta_ttl), 'x', string.format('%.0f', due))
redis.call('PEXPIRE', head, meta_ttl)
if key then
  redis.call('HSET', key, 'd', ARGV[11], 'e', epoch, 'o', offset, 't', ARGV[7],
    'u', string.format('%.0f', now + tonumber(ARGV[12])))
  redis.call('PEXPIRE', key, ARGV[12])
end
redis.call(ARGV[2], ARGV[1], ARGV[5] .. epoch .. '-' .. offset .. '-' .. ARGV[7] .. ' ' .. ARGV[4] .. '\n' .. ARGV[3])
return {0, epoch, offset, ARGV[7]}
