-- A session leaves a channel; and what has ended there meanwhile: `PresenceStore.leave`, `.entries` and `.expire`.
--
-- KEYS  1 leases (sorted set: member -> end in ms)   2 principals in order of coming (sorted set)
--       3 sessions of each principal (hash)
-- ARGV  1 where changes are announced   2 PUBLISH or SPUBLISH   3 the member that leaves, or ""
--       4 how many principals to list, or -1 to count
--       5 ms to add to the server's clock (tests only; else 0)
-- Returns {1 the principal's last session left | 0, when the first lease here ends in ms or "", {principal, ...},
-- how many principals there are, how many leases}; the latter two only where they are to be counted.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000) + tonumber(ARGV[5])
local function remove(member)
  if redis.call('ZREM', KEYS[1], member) == 0 then return 0 end
  local length, rest = member:match('^(%d+):(.*)$')
  local principal = rest:sub(1, tonumber(length))
  if redis.call('HINCRBY', KEYS[3], principal, -1) > 0 then return 0 end
  redis.call('HDEL', KEYS[3], principal)
  redis.call('ZREM', KEYS[2], principal)
  redis.call(ARGV[2], ARGV[1], '-' .. principal)
  return 1
end
for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now)) do remove(member) end
local is_last = ARGV[3] ~= '' and remove(ARGV[3]) or 0
local listed = {}
if tonumber(ARGV[4]) > 0 then listed = redis.call('ZRANGE', KEYS[2], 0, ARGV[4] - 1) end
-- Not ZCARD: access lists that were written for an earlier version do not permit it.
local principals, sessions = 0, 0
if ARGV[4] == '-1' then
  principals, sessions = #redis.call('ZRANGE', KEYS[2], 0, -1), #redis.call('ZRANGE', KEYS[1], 0, -1)
end
return {is_last, redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2] or '', listed, principals, sessions}
