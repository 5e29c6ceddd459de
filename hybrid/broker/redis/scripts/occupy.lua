-- A node reads a channel from now on, or no more; and what has ended there meanwhile: `OccupancyStore`.
--
-- KEYS  1 the nodes that read it (sorted set: node -> end of its lease in ms)
-- ARGV  1 the node, or ""   2 its lease in ms, 0 to leave   3 how long the key is kept, in ms
--       4 ms to add to the server's clock (tests only; else 0)
-- Returns {1 it was read by nobody | -1 nobody reads it any more | 0, now in ms, when the first lease ends in ms or ""}.
--
-- A lease that ran out while another node comes is no change: whoever is told saw nobody leave.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000) + tonumber(ARGV[4])
local before = #redis.call('ZRANGE', KEYS[1], 0, 0)
for _, node in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now)) do redis.call('ZREM', KEYS[1], node) end
if ARGV[1] ~= '' then
  if tonumber(ARGV[2]) > 0 then
    redis.call('ZADD', KEYS[1], string.format('%.0f', now + ARGV[2]), ARGV[1])
    redis.call('PEXPIRE', KEYS[1], ARGV[3])
  else
    redis.call('ZREM', KEYS[1], ARGV[1])
  end
end
local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
return {(first[1] and 1 or 0) - before, string.format('%.0f', now), first[2] or ''}
