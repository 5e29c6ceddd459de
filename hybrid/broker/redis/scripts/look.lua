-- Look at a ticket without using it up, and keep it for longer: `TicketStore.look`.
--
-- KEYS  1 the ticket (hash: v what it stands for, u its end in ms)
-- ARGV  1 ms from now that it is kept for at least   2 "1" to take it away   3 ms to add to the server's clock (tests)
-- Returns what it stands for, or nil.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000) + tonumber(ARGV[3])
local kept = redis.call('HMGET', KEYS[1], 'v', 'u')
if not kept[1] then return nil end
if tonumber(kept[2]) <= now then
  redis.call('DEL', KEYS[1])
  return nil
end
if ARGV[2] == '1' then
  redis.call('DEL', KEYS[1])
elseif now + ARGV[1] > tonumber(kept[2]) then
  redis.call('HSET', KEYS[1], 'u', string.format('%.0f', now + ARGV[1]))
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
end
return kept[1]
