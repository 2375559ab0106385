-- Creates contacts with wrk, each of them new, and checks every answer.
--   wrk -s create.lua URL -- BODY STATUS MARK
-- {n} in BODY becomes MARK and a number. An answer is right when it has STATUS and the e-mail address
-- of a contact, which starts with MARK, and no errors. What `done` prints is read by load.py.

local threads = {}
local body, status, created
sent, wrong, failure = 0, 0, ""

function setup(thread)
  table.insert(threads, thread)
end

function init(args)
  body, status, mark = args[1], tonumber(args[2]), args[3]
  created = '"email":%s*"' .. mark
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
  wrk.headers["X-Api-Key"] = "benchmark"
end

function request()
  sent = sent + 1
  return wrk.format(nil, nil, nil, (body:gsub("{n}", mark .. sent)))
end

function response(got, _, answer)
  if got ~= status or not answer:find(created) or answer:find('"errors"', 1, true) then
    wrong = wrong + 1
    failure = got .. " " .. answer:sub(1, 300)
  end
end

function done(summary, latency)
  local failures, shown = 0, ""
  for _, thread in ipairs(threads) do
    failures = failures + thread:get("wrong")
    shown = shown .. thread:get("failure")
  end
  local errors = summary.errors
  failures = failures + errors.connect + errors.read + errors.write + errors.timeout
  io.write(string.format("requests=%d\nmicroseconds=%d\np50=%d\np99=%d\nfailures=%d\nfailure=%s\n",
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), failures,
    shown:gsub("%s+", " ")))
end
