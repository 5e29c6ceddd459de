-- Say at which node a ticket's stream is open now: `TicketStore.claim`.
--
-- KEYS  1 the ticket (hash: h the node, n how often it was opened)
-- ARGV  1 the node
-- Returns {the node before, or "", how often it was opened by now}, or nil where the ticket is gone.
if redis.call('HEXISTS', KEYS[1], 'v') == 0 then return nil end
local former = redis.call('HGET', KEYS[1], 'h') or ''
redis.call('HSET', KEYS[1], 'h', ARGV[1])
return {former, redis.call('HINCRBY', KEYS[1], 'n', 1)}
