-- Claim the channels in which a lease has ended: the work list of `PresenceStore.expire`.
--
-- KEYS  1 channels by the end of their first lease (sorted set)   2 those claimed, by the time of the claim (sorted set)
-- ARGV  1 how many at most   2 how long a claim is good for, in ms   3 ms to add to the server's clock (tests only)
-- Returns {channel, ...}. Who claimed them looks at each, puts its next end back into 1, and takes it out of 2. What
-- was claimed by somebody who died comes back here.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000) + tonumber(ARGV[3])
for _, channel in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now - ARGV[2], 'LIMIT', 0, ARGV[1])) do
  redis.call('ZREM', KEYS[2], channel)
  redis.call('ZADD', KEYS[1], 'LT', now, channel)
end
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])
for _, channel in ipairs(due) do
  redis.call('ZREM', KEYS[1], channel)
  redis.call('ZADD', KEYS[2], string.format('%.0f', now), channel)
end
return due
