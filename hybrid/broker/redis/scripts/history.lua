-- What a channel's log still keeps, from one end: `Broker.history`.
--
-- KEYS  1 the channel's head (hash)   2 its log (stream)
-- ARGV  1 how many at most   2 bytes of data at most, in all but one   3 "r" for the newest first, "f" otherwise
--       4 ms to add to the server's clock (tests only; else 0)
-- Returns {1, epoch, offset, tag of the head, {entry, ...}}; epoch "" where there is no log. Entries as XRANGE's.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000) + tonumber(ARGV[4])
local h = redis.call('HMGET', KEYS[1], 'e', 'o', 't', 'l', 'u')
if not h[1] or tonumber(h[5]) <= now then return {1, '', '0', '', {}} end
local limit, room, is_reverse = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3] == 'r'
local entries, oldest, start = {}, now - tonumber(h[4]), is_reverse and '+' or '-'
while limit > 0 do
  local step
  if is_reverse then step = redis.call('XREVRANGE', KEYS[2], start, '-', 'COUNT', 32)
  else step = redis.call('XRANGE', KEYS[2], start, '+', 'COUNT', 32) end
  for _, entry in ipairs(step) do
    start = '(' .. entry[1]
    if tonumber(entry[2][2]) >= oldest then
      room = room - #entry[2][4]
      if #entries > 0 and room < 0 then limit = 0 break end
      entries[#entries + 1] = entry
      limit = limit - 1
      if limit == 0 then break end
    elseif is_reverse then limit = 0 break end
  end
  if #step < 32 then break end
end
return {1, h[1], h[2], h[3], entries}
