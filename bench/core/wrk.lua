-- Sends POSTs of notes, each with its own idempotency key. Prints the figures as JSON at the end.
local prefix = ""
local count = 0
local threads = 0

function setup(thread)
  threads = threads + 1
  thread:set("number", threads)
end

function init(args)
  prefix = (args[1] or "x") .. "-" .. number .. "-"
  wrk.method = "POST"
  wrk.body = '{"text":"Buy milk, bread and some other things"}'
  wrk.headers["Content-Type"] = "application/json"
  if args[2] then wrk.headers["Authorization"] = "Bearer " .. args[2] end
end

function request()
  count = count + 1
  wrk.headers["Idempotency-Key"] = prefix .. count
  return wrk.format()
end

-- Returns the CPU time of this process in seconds (proc(5)). A clock tick is 10 ms on Linux.
function cpu()
  local file = io.open("/proc/self/stat")
  local fields = {}
  for field in file:read("*a"):match("%) (.*)"):gmatch("%S+") do fields[#fields + 1] = field end
  file:close()
  return (fields[12] + fields[13]) / 100
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    'JSON {"requests":%d,"seconds":%f,"errors":%d,"p50":%f,"p99":%f,"cpu":%f}\n',
    summary.requests, summary.duration / 1e6,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000, cpu()))
end
