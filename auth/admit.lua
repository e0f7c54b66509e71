-- Admits or refuses each request of a batch, in order, against all its limits at once.
--
-- KEYS  1: hash of the gateway's holds, 2: its fence, then n subject states, then balances
-- ARGV  1: n, 2: the caller's fence, 3: n limits '<ddd' (ms a request, ms a token, concurrency;
--       0: no limit), then for each request its id and its hold
--
-- A state is '<ddd': when the request bucket is full again, when the token bucket is, both in ms
-- of Redis time, and the requests running. A bucket is one minute deep: each request and token
-- moves its time on by its share of a minute, and what would move it past now + 1 minute is
-- refused. A hold is made by auth/admission_batch.c: '<HHHHds', the subjects and the balance as
-- places in KEYS (0: none), tokens, nano-units; what follows is for settling.
--
-- Nothing of a request is written before all of its limits have agreed. Amounts of money are
-- strings all the way: numbers here are doubles.
--
-- Returns one string: '<d' now, a byte a request (verdict + 16 * subject), the n states.
local call, pack, unpick = redis.call, struct.pack, struct.unpack
local n = tonumber(ARGV[1])
local got = call('MGET', unpack(KEYS, 2))
if got[1] and tonumber(got[1]) > tonumber(ARGV[2]) then
    return redis.error_reply('STALE an older connection of this gateway')
end
local time = call('TIME')
local now = time[1] * 1000 + time[2] / 1000
local full = now + 60000.01 -- the hundredth: sums of doubles must not refuse the last request

local limits = ARGV[3]
local at = 1
local request_ms, token_ms, most = {}, {}, {}
local requests, tokens, running, changed = {}, {}, {}, {}
for i = 3, n + 2 do
    request_ms[i], token_ms[i], most[i], at = unpick('<ddd', limits, at)
    local state = got[i - 1]
    if state and #state == 24 then
        local r, t, c = unpick('<ddd', state)
        -- Above full: more was used than held, or the clock was set back.
        requests[i] = r < now and now or r > full and full or r
        tokens[i] = t < now and now or t > full and full or t
        running[i] = c
    else
        requests[i], tokens[i], running[i] = now, now, 0
    end
end

local verdict, wait
-- Remembers the refusal that will take longest to pass.
local function refuse(kind, subject, ms)
    if ms > wait then
        verdict, wait = kind + 16 * subject, ms
    end
end
local function check(i, subject, count)
    local ms = requests[i] + request_ms[i] - full
    if ms > 0 and request_ms[i] > 0 then
        refuse(1, subject, ms)
    end
    ms = tokens[i] + token_ms[i] * count - full
    if ms > 0 and token_ms[i] > 0 then
        refuse(2, subject, ms)
    end
    if most[i] > 0 and running[i] >= most[i] then
        refuse(3, subject, 1)
    end
end
local function take(i, count)
    requests[i] = requests[i] + request_ms[i]
    tokens[i] = tokens[i] + token_ms[i] * count
    running[i] = running[i] + 1
    changed[i] = true
end
-- A balance never goes below zero here: checked before, so that DECRBY cannot overflow, and
-- undone after.
local function pay(i, amount)
    local had = got[i - 1]
    if not had then
        return 5
    end
    if string.byte(had) == 45 then
        return 4 + 32
    end
    local left = redis.pcall('DECRBY', KEYS[i], amount)
    if type(left) == 'table' then
        return 5 -- not a number
    end
    if left < 0 then
        call('INCRBY', KEYS[i], amount)
        return 4 + 32
    end
    return 0
end

local verdicts, fields, f = {}, {}, 0
for a = 4, #ARGV, 2 do
    local hold = ARGV[a + 1]
    local k, p, t, b, count, amount = unpick('<HHHHds', hold)
    verdict, wait = 0, 0
    if k > 0 then
        check(k, 0, count)
    end
    if p > 0 then
        check(p, 1, count)
    end
    if t > 0 then
        check(t, 2, count)
    end
    if verdict == 0 and b > 0 then
        verdict = pay(b, amount)
    end
    if verdict == 0 then
        if k > 0 then
            take(k, count)
        end
        if p > 0 then
            take(p, count)
        end
        if t > 0 then
            take(t, count)
        end
        fields[f + 1], fields[f + 2] = ARGV[a], hold
        f = f + 2
    end
    verdicts[#verdicts + 1] = string.char(verdict)
end

local states = {}
for i = 3, n + 2 do
    local state = pack('<ddd', requests[i], tokens[i], running[i])
    states[i - 2] = state
    if changed[i] then
        call('SET', KEYS[i], state, 'EX', 86400)
    end
end
if f > 0 then
    call('HSET', KEYS[1], unpack(fields))
end
return pack('<d', now) .. table.concat(verdicts) .. table.concat(states)
