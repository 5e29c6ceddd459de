-- Empty a channel's log and begin another epoch of it, and announce that: `Broker.purge`.
--
-- KEYS  1 the channel's head (hash)   2 its log (stream)
-- ARGV  1 where it is announced   2 PUBLISH or SPUBLISH   3 the new epoch   4 the tag of its first place
--       5 how long the head is kept, in ms                6 ms to add to the server's clock (tests only; else 0)
-- Returns "epoch-1-tag", or "" where there is no log. Sent again with the same epoch it does nothing more.
--
-- The announcement reads as one of a publication, which a node that knows no purges takes for a hole, and heals. In the
-- place of data stands the epoch that ended.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000) + tonumber(ARGV[6])
local head, log = KEYS[1], KEYS[2]
local known = redis.call('HMGET', head, 'e', 'u')
if not known[1] or tonumber(known[2]) <= now then return '' end
local cursor = ARGV[3] .. '-1-' .. ARGV[4]
if known[1] == ARGV[3] then return cursor end
redis.call('DEL', log)
redis.call('HSET', head, 'e', ARGV[3], 'o', '1', 't', ARGV[4], 'u', string.format('%.0f', now + ARGV[5]), 'x', '0')
redis.call('PEXPIRE', head, ARGV[5])
redis.call(ARGV[2], ARGV[1], 'x' .. cursor .. ' \n' .. known[1])
return cursor
