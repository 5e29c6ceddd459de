-- Append publications to a channel's log, in order, and announce them: the one atomic step of `Broker.append`.
--
-- KEYS  1 the channel's head (hash)   2 its log (stream)   3... the idempotency key (string) of each, or of none
-- ARGV  1 where they are announced    2 PUBLISH or SPUBLISH
--       3 the epoch of a log that has to begin
--       4 publications kept           5 their age in ms   6 how long the head outlives them, in ms
--       7 how long keys are remembered, in ms             8 ms to add to the server's clock (tests only; else 0)
--       and for each: data, type or "", "b" for binary data and "j" otherwise, the tag (eight hex digits), and the
--       digest of its body where it has a key, else ""
-- Returns one line for each: "0 epoch-offset-tag" (new), "1 epoch-offset-tag" (repeated), "2" for a key that came with
-- another body, "3" for one that could not be written, as all behind it, though some before it were. The error of the
-- first is that of the step: then nothing was done.
--
-- The head: e epoch, o offset, t tag, n and l the bounds of the last append, u when it is forgotten, x when the oldest
-- entry is due. All times are those of the server's clock, so that nodes need not agree on theirs.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000) + tonumber(ARGV[8])
local head, log = KEYS[1], KEYS[2]
local size, ttl, meta_ttl, window = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local is_kept, first, fields = size > 0 and ttl > 0, 8, 5
local count = (#ARGV - first) / fields

local epoch, offset, tag, age, due
local function look()
  local old = redis.call('HMGET', head, 'e', 'o', 'u', 'l', 'x')
  epoch, offset = old[1], tonumber(old[2])
  age, due = old[4], tonumber(old[5] or 0)
  if not epoch or tonumber(old[3]) <= now then
    redis.call('DEL', head, log)
    epoch, offset, age, due = ARGV[3], 0, false, 0
  end
end

local lines, announced = {}, {}
local function append(place)
  local at, key = first + (place - 1) * fields, KEYS[2 + place]
  local digest = ARGV[at + 5]
  if key then
    local known = redis.call('HMGET', key, 'd', 'u', 'e', 'o', 't')
    if known[1] and tonumber(known[2]) > now then
      if known[1] ~= digest then return '2' end
      return '1 ' .. known[3] .. '-' .. known[4] .. '-' .. known[5]
    end
  end
  if not epoch then look() end
  local data, kind, next_tag = ARGV[at + 1], ARGV[at + 2], ARGV[at + 4]
  local text = string.format('%.0f', offset + 1)
  if is_kept then
    redis.call('XADD', log, 'MAXLEN', '=', size, text .. '-' .. tonumber(next_tag, 16),
      'a', now, 'd', data, 't', kind, 'k', ARGV[at + 3])
  end
  offset, tag = offset + 1, next_tag
  local cursor = epoch .. '-' .. text .. '-' .. next_tag
  announced[#announced + 1] = ARGV[at + 3] .. cursor .. ' ' .. kind .. '\n' .. data
  if key then
    redis.call('HSET', key, 'd', digest, 'e', epoch, 'o', text, 't', next_tag, 'u', string.format('%.0f', now + window))
    redis.call('PEXPIRE', key, window)
  end
  return '0 ' .. cursor
end

for place = 1, count do
  local is_done, line = pcall(append, place)
  if is_done then
    lines[place] = line
  else
    -- Nothing was written: what was found by its key before it is found again.
    if not tag then return type(line) == 'table' and line or redis.error_reply(tostring(line)) end
    for rest = place, count do lines[rest] = '3' end
    break
  end
end
if not tag then return lines end

if is_kept then
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
redis.call('HSET', head, 'e', epoch, 'o', string.format('%.0f', offset), 't', tag, 'n', ARGV[4], 'l', ARGV[5],
  'u', string.format('%.0f', now + meta_ttl), 'x', string.format('%.0f', due))
redis.call('PEXPIRE', head, meta_ttl)
for _, message in ipairs(announced) do redis.call(ARGV[2], ARGV[1], message) end
return lines
