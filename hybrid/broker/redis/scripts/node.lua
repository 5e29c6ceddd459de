-- Keep a node in the list of nodes, under a lease that its generation fences.
--
-- KEYS  1 the list (hash: node -> "end in ms, generation, what it says of itself")   2 the count of generations
-- ARGV  1 the node   2 its generation, "0" to join   3 lease in ms, 0 to leave   4 what it says of itself
--       5 ms to add to the server's clock (tests only; else 0)
-- Returns {generation, or 0 where the lease of that generation is over, {what each other living node says, ...}}.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000) + tonumber(ARGV[5])
local generation, others = ARGV[2], {}
local listed = redis.call('HGETALL', KEYS[1])
for place = 1, #listed, 2 do
  local ends, its, text = listed[place + 1]:match('^(%d+),(%d+),(.*)$')
  if tonumber(ends) <= now then
    redis.call('HDEL', KEYS[1], listed[place])
    if listed[place] == ARGV[1] then its = nil end
  end
  if listed[place] == ARGV[1] then
    -- Ended meanwhile, or begun again by somebody else: whoever holds the old generation has to join anew.
    if generation ~= '0' and its ~= generation then generation = false end
  elseif tonumber(ends) > now then
    others[#others + 1] = text
  end
end
if generation and generation ~= '0' and redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then generation = false end
if tonumber(ARGV[3]) == 0 then
  if generation and generation ~= '0' then redis.call('HDEL', KEYS[1], ARGV[1]) end
  return {0, others}
end
if not generation then return {0, others} end
if generation == '0' then generation = tostring(redis.call('INCR', KEYS[2])) end
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', now + ARGV[3]) .. ',' .. generation .. ',' .. ARGV[4])
return {tonumber(generation), others}
