-- One flush: sets the latest values that are newer than what is there, then publishes.
--
-- KEYS[1]   the hash of all prices; KEYS[2..] one hash a latest value
-- ARGV[1]   number of messages; then a channel and a payload for each
-- then, for each latest value: symbol, guard, 1 if it is the price, number of fields, then field
-- and value for each. The guard is one of the fields and only rises; ids and microseconds stay
-- below 2^53, where Lua's numbers are exact.
--
-- Returns {values set, values that were not newer, the first error's text or ''}. Values come
-- before messages, and their errors (out of memory) do not keep the messages back.
local function failure(reply) return type(reply) == 'table' and reply.err end
local set, stale, failed = 0, 0, ''
local messages = tonumber(ARGV[1])
local at = 2 + 2 * messages
for i = 2, #KEYS do
  local symbol, guard, is_price, count = ARGV[at], ARGV[at + 1], ARGV[at + 2], tonumber(ARGV[at + 3])
  local fields, version, price = {}, nil, nil
  for j = at + 4, at + 2 + 2 * count, 2 do
    local name, value = ARGV[j], ARGV[j + 1]
    fields[#fields + 1], fields[#fields + 2] = name, value
    if name == guard then version = tonumber(value) end
    if name == 'price' then price = value end
  end
  at = at + 4 + 2 * count
  local current = redis.pcall('HGET', KEYS[i], guard)
  local err = failure(current)
  if not err and (tonumber(current or nil) or -1) >= version then
    stale = stale + 1
  else
    -- The price goes first: were it the one that fails, its guard would keep it from being tried again.
    if not err and is_price == '1' then err = failure(redis.pcall('HSET', KEYS[1], symbol, price)) end
    if not err then err = failure(redis.pcall('HSET', KEYS[i], unpack(fields))) end
    if err then failed = err .. ' (' .. KEYS[i] .. ')' else set = set + 1 end
  end
end
for i = 2, 2 * messages, 2 do
  redis.call('PUBLISH', ARGV[i], ARGV[i + 1])
end
return {set, stale, failed}
