-- A session comes to a channel, or renews its lease there: `PresenceStore.join`.
--
-- KEYS  1 leases (sorted set: member -> end in ms)   2 principals in order of coming (sorted set)
--       3 sessions of each principal (hash)          4 the count that orders comings (string)
-- ARGV  1 where changes are announced   2 PUBLISH or SPUBLISH   3 the principal   4 principal and session, the member
--       5 lease in ms                   6 ms to add to the server's clock (tests only; else 0)
-- Returns {1 the first session | 0, when the first lease here ends in ms}.
--
-- A member is <length of principal>:<principal><session>, so that the principal can be cut out of it again.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000) + tonumber(ARGV[6])
for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now)) do
  local length, rest = member:match('^(%d+):(.*)$')
  local principal = rest:sub(1, tonumber(length))
  redis.call('ZREM', KEYS[1], member)
  if redis.call('HINCRBY', KEYS[3], principal, -1) <= 0 then
    redis.call('HDEL', KEYS[3], principal)
    redis.call('ZREM', KEYS[2], principal)
    redis.call(ARGV[2], ARGV[1], '-' .. principal)
  end
end
local is_first = 0
if redis.call('ZADD', KEYS[1], string.format('%.0f', now + ARGV[5]), ARGV[4]) == 1 then
  if redis.call('HINCRBY', KEYS[3], ARGV[3], 1) == 1 then
    redis.call('ZADD', KEYS[2], redis.call('INCR', KEYS[4]), ARGV[3])
    redis.call(ARGV[2], ARGV[1], '+' .. ARGV[3])
    is_first = 1
  end
end
-- The keys of a channel that nobody asks about any more go by themselves, well after the last lease.
for place = 1, 4 do redis.call('PEXPIRE', KEYS[place], ARGV[5] * 10) end
return {is_first, redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]}
