-- Sets a missing balance from the ledger.
--
-- KEYS  1: balance, 2: settled meanwhile (tg:d:...), 3: last credit applied, 4: the mark, then the
--       holds of each gateway
-- ARGV  1: the mark as the caller left it, 2: nano-units by the ledger, 3: last credit in them,
--       4: ids that the ledger has, 16 bytes each, then for each open request: the place of its
--       gateway in KEYS, its id, tokens, nano-units held
--
-- A hold is as auth/settle.lua has it; one that is put back has no limits to give back to, since
-- those were lost with it. All arithmetic on amounts is Redis's own, on 64-bit integers.
--
-- Returns 1: set, 0: it was not missing.
local call, pack, unpick = redis.call, struct.pack, struct.unpack
if call('GET', KEYS[4]) ~= ARGV[1] then
    return redis.error_reply('STALE another leader keeps the balances')
end
local balance = KEYS[1]
if call('EXISTS', balance) == 1 then
    return 0
end
local in_ledger = {}
for at = 1, #ARGV[4], 16 do
    in_ledger[string.sub(ARGV[4], at, at + 15)] = true
end

call('SET', balance, ARGV[2])
local trouble
local function pay(amount)
    local left = redis.pcall('DECRBY', balance, amount)
    if type(left) == 'table' then
        trouble = left
    end
end

local known = {}
local settled = call('HGETALL', KEYS[2])
for i = 1, #settled, 2 do
    known[settled[i]] = true
    if not in_ledger[settled[i]] then
        pay(settled[i + 1])
    end
end
for k = 5, #KEYS do
    local holds = call('HGETALL', KEYS[k])
    for i = 1, #holds, 2 do
        known[holds[i]] = true
        local _, _, _, _, _, amount, _, _, _, _, _, _, name =
            unpick('<HHHHdsdddBc0Bc0Bc0Bc0', holds[i + 1])
        if name == balance then
            pay(amount)
        end
    end
end
local lost = {}
for a = 5, #ARGV, 4 do
    if not known[ARGV[a + 1]] then
        lost[#lost + 1] = a
        pay(ARGV[a + 3])
    end
end
if trouble then
    call('DEL', balance)
    return trouble
end
for _, a in ipairs(lost) do
    call('HSET', KEYS[tonumber(ARGV[a])], ARGV[a + 1],
        pack('<HHHHdsdddBc0Bc0Bc0Bc0', 0, 0, 0, 0, tonumber(ARGV[a + 2]), ARGV[a + 3], 0, 0, 0,
            0, '', 0, '', 0, '', #balance, balance))
end
call('SET', KEYS[3], ARGV[3])
call('DEL', KEYS[2])
return 1
