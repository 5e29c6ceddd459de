-- Read what was revoked after a place: `RevocationStore.read`.
--
-- KEYS  1 what was revoked, by its place (sorted set)   2 times of those whose place is not their time (hash)
-- ARGV  1 the last one that is known, or ""   2 its place   3 how many at most
-- Returns {1, or 0 where that one is not there in that place, so that this is from the first on; 1 if there are more;
-- {what was revoked, its place, its time in ms, ...}}.
local from, is_continued = '-inf', 1
local limit = tonumber(ARGV[3])
if ARGV[1] ~= '' then
  local there = redis.call('ZRANGEBYSCORE', KEYS[1], ARGV[2], ARGV[2])
  if there[1] == ARGV[1] then from = '(' .. ARGV[2] else is_continued = 0 end
end
local found = redis.call('ZRANGEBYSCORE', KEYS[1], from, '+inf', 'WITHSCORES', 'LIMIT', 0, limit + 1)
local answer = {}
for number = 1, math.min(#found, 2 * limit), 2 do
  local member, place = found[number], found[number + 1]
  answer[#answer + 1] = member
  answer[#answer + 1] = place
  answer[#answer + 1] = redis.call('HGET', KEYS[2], member) or place
end
return {is_continued, #found > 2 * limit and 1 or 0, answer}
