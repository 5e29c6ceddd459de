-- The publications after a position: `Broker.read`. The rules are those of `protocol/recovery.py`.
--
-- KEYS  1 the channel's head (hash)   2 its log (stream)
-- ARGV  1 offset, 2 epoch and 3 tag of the position   4 how many at most   5 bytes of data at most, in all but one
--       6 ms to add to the server's clock (tests only; else 0)
-- Returns {1 | 0 cannot be continued, epoch, offset, tag of the head, {entry, ...}}; epoch "" where there is no log.
-- Entries as XRANGE gives them.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000) + tonumber(ARGV[6])
local h = redis.call('HMGET', KEYS[1], 'e', 'o', 't', 'l', 'u')
local after, limit, room = tonumber(ARGV[1]), tonumber(ARGV[4]), tonumber(ARGV[5])
if not h[1] or tonumber(h[5]) <= now then
  return {after == 0 and 1 or 0, '', '0', '', {}}
end
local function answer(is_exact, entries) return {is_exact, h[1], h[2], h[3], entries} end
local head, oldest = tonumber(h[2]), now - tonumber(h[4])
if after > 0 then
  if ARGV[2] ~= h[1] or after > head then return answer(0, {}) end
  if after == head then return answer(ARGV[3] == h[3] and 1 or 0, {}) end
end

-- In small steps, so that a log of large publications is not read whole for one page.
local entries, start, is_first = {}, after > 0 and string.format('%.0f', after) or '-', true
while limit > 0 do
  local step = redis.call('XRANGE', KEYS[2], start, '+', 'COUNT', 32)
  for _, entry in ipairs(step) do
    local offset, tag = entry[1]:match('^(%d+)-(%d+)$')
    if is_first then
      is_first = false
      -- The first is the entry at the position itself, or the first of all.
      if tonumber(entry[2][2]) < oldest then return answer(0, {}) end
      if after == 0 and offset ~= '1' then return answer(0, {}) end
      -- The place of the purge that began the epoch has no entry.
      local is_purge = after == 1 and ARGV[3] == '00000000' and offset == '2'
      if after > 0 and not is_purge and (tonumber(offset) ~= after or string.format('%08x', tag) ~= ARGV[3]) then
        return answer(0, {})
      end
    end
    if tonumber(offset) > after then
      room = room - #entry[2][4]
      if #entries > 0 and room < 0 then return answer(1, entries) end
      entries[#entries + 1] = entry
      limit = limit - 1
      if limit == 0 then break end
    end
    start = '(' .. entry[1]
  end
  if #step < 32 then break end
end
if is_first then return answer(0, {}) end
return answer(1, entries)
