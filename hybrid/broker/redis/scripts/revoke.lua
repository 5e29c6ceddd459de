-- Keep revocations and announce that there is something to read: `RevocationStore.append` and `restore`.
--
-- KEYS  1 what was revoked, by its place (sorted set)   2 times of those whose place is not their time (hash)
-- ARGV  1 where it is announced   2 PUBLISH or SPUBLISH   3 how long it is kept, in ms   4 how many at most
--       5 ms to add to the server's clock (tests only; else 0)
--       6, 8, ... what is revoked   7, 9, ... its time in ms, or "" for now
-- Returns {time in ms, ...}, "" in the place of one that there is no room for.
--
-- A place is the time in ms, but always behind all others: whoever knows the last one reads what comes after it. One
-- that is given with its time was lost and is brought back; it must not move what is there.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000) + tonumber(ARGV[5])
for _, old in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[3], 'LIMIT', 0, 1000)) do
  redis.call('ZREM', KEYS[1], old)
  redis.call('HDEL', KEYS[2], old)
end
local last = redis.call('ZRANGE', KEYS[1], -1, -1, 'WITHSCORES')[2]
local place, times = math.max(now, (tonumber(last) or 0) + 1), {}
for number = 6, #ARGV, 2 do
  local member, at = ARGV[number], ARGV[number + 1]
  local is_full = #redis.call('ZRANGE', KEYS[1], ARGV[4] - 1, ARGV[4] - 1) > 0
  local score = string.format('%.0f', place)
  local has_changed
  if at ~= '' then
    has_changed = not is_full and redis.call('ZADD', KEYS[1], 'NX', score, member) == 1
  else
    at = string.format('%.0f', now)
    has_changed = redis.call('ZADD', KEYS[1], is_full and 'XX' or 'GT', 'CH', score, member) == 1
  end
  if has_changed then
    if at == score then redis.call('HDEL', KEYS[2], member) else redis.call('HSET', KEYS[2], member, at) end
    place = place + 1
  elseif is_full then
    at = ''
  end
  times[#times + 1] = at
end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
redis.call(ARGV[2], ARGV[1], '')
return times
