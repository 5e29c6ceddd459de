-- Keep what becomes of a call that came with a key, so that it runs once whichever nodes it is sent to.
--
-- KEYS  1 the call (hash: b digest of its body, n who runs it, r its result)
-- ARGV  1 digest of the body   2 who wants to run it   3 how long it is remembered, in ms   4 a result, or ""
-- Returns {0 it runs, who runs it}, {1 it is finished, the result} or {2 the key came with another body, ""}.
local known = redis.call('HMGET', KEYS[1], 'b', 'n', 'r')
if ARGV[4] ~= '' then
  redis.call('HSET', KEYS[1], 'b', ARGV[1], 'n', ARGV[2], 'r', ARGV[4])
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
  return {1, ARGV[4]}
end
if not known[1] then
  redis.call('HSET', KEYS[1], 'b', ARGV[1], 'n', ARGV[2])
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
  return {0, ARGV[2]}
end
if known[1] ~= ARGV[1] then return {2, ''} end
if known[3] then return {1, known[3]} end
return {0, known[2]}
