-- Adds a credit to a balance, once.
--
-- KEYS  1: balance, 2: last credit applied
-- ARGV  1: the credit's number, 2: nano-units
--
-- Returns 1: it is in the balance, 0: the balance is missing.
local last = redis.call('GET', KEYS[2])
if redis.call('EXISTS', KEYS[1]) == 0 then
    return 0
end
if last and tonumber(last) >= tonumber(ARGV[1]) then
    return 1
end
redis.call('INCRBY', KEYS[1], ARGV[2])
redis.call('SET', KEYS[2], ARGV[1])
return 1
