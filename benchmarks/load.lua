-- Sends POSTs with wrk and checks every answer.
--   wrk -s load.lua URL -- BODY STATUS LEAST MOST CREATES KEY IDS UNIQUE
-- In BODY, {n} becomes UNIQUE and a number that no other request has, {id} a number from 1 to IDS,
-- {size} one from LEAST to MOST. A right answer has STATUS, no errors and LEAST to MOST e-mail
-- addresses. Where CREATES is 1, its address has UNIQUE and a number that was sent and not answered
-- before. wrk does not say which request an answer belongs to: load.py checks that before the
-- rounds. It also parses the output of `done`.

local threads = {}
local body, status, least, most, creates, ids, unique, created
local answered = {}
-- Globals: `done` reads them from each thread.
sent, wrong, failure = 0, 0, ""

function setup(thread)
  table.insert(threads, thread)
end

function init(args)
  body, status, least, most = args[1], tonumber(args[2]), tonumber(args[3]), tonumber(args[4])
  creates, ids, unique = args[5] == "1", tonumber(args[7]), args[8]
  created = '"email":%s*"' .. unique .. "(%d+)@"
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
  wrk.headers["X-Api-Key"] = args[6]
end

function request()
  sent = sent + 1
  local filled = body:gsub("{n}", unique .. sent)
  filled = filled:gsub("{id}", function() return math.random(ids) end)
  filled = filled:gsub("{size}", function() return math.random(least, most) end)
  return wrk.format(nil, nil, nil, filled)
end

local function is_right(got, answer)
  if got ~= status or answer:find('"errors"', 1, true) then
    return false
  end
  if creates then
    local number = tonumber(answer:match(created))
    if number == nil or number > sent or answered[number] then
      return false
    end
    answered[number] = true
  end
  local _, found = answer:gsub('"email":', "")
  return least <= found and found <= most
end

function response(got, _, answer)
  if not is_right(got, answer) then
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
  local lost = errors.connect + errors.read + errors.write + errors.timeout
  io.write(string.format(
    "requests=%d\nmicroseconds=%d\np50=%d\np99=%d\nfailures=%d\nlost=%d\nfailure=%s\n",
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), failures,
    lost, shown:gsub("%s+", " ")))
end
