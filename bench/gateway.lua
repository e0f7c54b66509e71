-- The load of bench/gateway.sh: one fixed chat request over and over, and the figures on one line.
local key = os.getenv("BENCH_KEY")
local body = os.getenv("BENCH_BODY")
local threads = {}

wrk.method = "POST"
wrk.path = "/v1/chat/completions"
wrk.body = body
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer " .. key

function setup(thread)
   threads[#threads + 1] = thread
end

function init(args)
   wrong = 0
   first_wrong = ""
   fixed = wrk.format()
end

function request()
   return fixed
end

function response(status, headers, text)
   if status ~= 200 then
      if wrong == 0 then
         first_wrong = status .. " " .. text
      end
      wrong = wrong + 1
   end
end

function done(summary, latency, requests)
   local bad, why = 0, ""
   for _, thread in ipairs(threads) do
      bad = bad + thread:get("wrong")
      if why == "" then
         why = thread:get("first_wrong")
      end
   end
   local e = summary.errors
   print(string.format("result %d %.1f %d %d %d %s", summary.requests,
      summary.requests * 1e6 / summary.duration, latency:percentile(50), latency:percentile(99),
      bad + e.connect + e.read + e.write + e.timeout, why))
end
