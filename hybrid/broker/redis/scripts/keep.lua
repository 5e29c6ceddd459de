-- Keep a ticket: `TicketStore.put`.
--
-- KEYS  1 the ticket (hash: v what it stands for, u its end in ms)
-- ARGV  1 what it stands for   2 for how many ms   3 ms to add to the server's clock (tests only; else 0)
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000) + tonumber(ARGV[3])
redis.call('HSET', KEYS[1], 'v', ARGV[1], 'u', string.format('%.0f', now + ARGV[2]))
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 0
