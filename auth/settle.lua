-- Turns holds into exact amounts. A hold is claimed by taking it out of the hash: what is not
-- there has been settled already, and is passed over.
--
-- KEYS  1: hash of the gateway's holds
-- ARGV  for each request its id, the tokens used, the nano-units it cost
--
-- A hold is '<HHHHdsdddBc0Bc0Bc0Bc0': four places (of no use here), tokens and nano-units held,
-- ms a token for key, project and tenant, the names of their states and of the balance (empty:
-- none). Costs of a tenant whose balance is being rebuilt are kept for the rebuild (tg:d:...).
--
-- Returns how many holds were claimed.
local call, pack, unpick = redis.call, struct.pack, struct.unpack
local ids = {}
for a = 1, #ARGV, 3 do
    ids[#ids + 1] = ARGV[a]
end
local holds = call('HMGET', KEYS[1], unpack(ids))
call('HDEL', KEYS[1], unpack(ids))

local names, place, n = {}, {}, 0
local function find(name)
    if name == '' then
        return nil
    end
    local i = place[name]
    if not i then
        n = n + 1
        names[n], place[name], i = name, n, n
    end
    return i
end

local claimed, seen, jobs = 0, {}, {}
for r = 1, #ids do
    local hold = holds[r]
    if hold and not seen[ids[r]] then
        seen[ids[r]] = true
        claimed = claimed + 1
        local _, _, _, _, tokens, amount, k_ms, p_ms, t_ms, k, p, t, b =
            unpick('<HHHHdsdddBc0Bc0Bc0Bc0', hold)
        local a = r * 3
        local unused = tokens - tonumber(ARGV[a - 1])
        jobs[claimed] = {find(k), unused * k_ms, find(p), unused * p_ms, find(t), unused * t_ms,
                         find(b), amount, ARGV[a], ids[r]}
    end
end
if claimed == 0 then
    return 0
end

local requests, tokens, running = {}, {}, {}
local got = n > 0 and call('MGET', unpack(names))
for i = 1, n do
    if got[i] and #got[i] == 24 then -- no balance is as long
        requests[i], tokens[i], running[i] = unpick('<ddd', got[i])
    end
end
local function give_back(i, ms)
    if i and tokens[i] then
        tokens[i] = tokens[i] - ms
        if running[i] > 0 then
            running[i] = running[i] - 1
        end
    end
end
-- Fifteen digits are exact in a double; beyond, two steps of integer arithmetic. pcall: whatever
-- stands in the balance, the other holds of the batch must be settled.
local function pay(i, held, cost, id)
    local name = names[i]
    if not got[i] then
        if cost ~= '0' then
            local debits = 'tg:d:' .. string.sub(name, 6)
            call('HSET', debits, id, cost)
            call('EXPIRE', debits, 604800)
        end
    elseif #held <= 15 and #cost <= 15 then
        redis.pcall('INCRBY', name, string.format('%.0f', tonumber(held) - tonumber(cost)))
    else
        redis.pcall('INCRBY', name, held)
        redis.pcall('DECRBY', name, cost)
    end
end
for j = 1, claimed do
    local job = jobs[j]
    give_back(job[1], job[2])
    give_back(job[3], job[4])
    give_back(job[5], job[6])
    if job[7] then
        pay(job[7], job[8], job[9], job[10])
    end
end
for i = 1, n do
    if tokens[i] then
        call('SET', names[i], pack('<ddd', requests[i], tokens[i], running[i]), 'EX', 86400)
    end
end
return claimed
