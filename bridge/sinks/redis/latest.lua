-- One flush. Sets the latest values that are newer than the stored ones, then publishes.
--
-- KEYS[1]   the hash of all prices, `<venue>.prices`
-- KEYS[2..] the hash of each latest value, `<venue>.latest:<symbol>`
-- ARGV[1]   the number of messages; then the channel and the payload of each message
-- then, for each group of fields: the field names, the number of values, and the contents of the
-- fields, value by value in the order of KEYS. Each name and each content ends with a line break.
-- The first field is the guard, which only increases. Ids and microseconds stay below 2^53, where
-- Lua's numbers are exact. The price, if any, is the second field.
--
-- Returns {values set, values that were not newer, the text of an error or ''}. Values are set
-- before messages are published. If a value fails (out of memory), messages are still published.
local function lines(text) return string.gmatch(text, '([^\n]*)\n') end
local function failure(reply) return type(reply) == 'table' and reply.err end
local set, stale, failed = 0, 0, ''
local symbol_at = #KEYS[1] - #'prices' + #'latest:' + 1
local last_message = 1 + 2 * tonumber(ARGV[1])
local key = 2
for group = last_message + 1, #ARGV, 3 do
  local fields, count = {}, 0
  for name in lines(ARGV[group]) do
    fields[2 * count + 1], count = name, count + 1
  end
  local guard, is_price = fields[1], fields[3] == 'price'
  local content = lines(ARGV[group + 2])
  for value = key, key + tonumber(ARGV[group + 1]) - 1 do
    for i = 1, count do fields[2 * i] = content() end
    local current = redis.pcall('HGET', KEYS[value], guard)
    local err = failure(current)
    if not err and (tonumber(current or nil) or -1) >= tonumber(fields[2]) then
      stale = stale + 1
    else
      -- The price is set before its guard: if it fails, the guard must not prevent a retry.
      if not err and is_price then
        err = failure(redis.pcall('HSET', KEYS[1], string.sub(KEYS[value], symbol_at), fields[4]))
      end
      if not err then err = failure(redis.pcall('HSET', KEYS[value], unpack(fields))) end
      if err then failed = err .. ' (' .. KEYS[value] .. ')' else set = set + 1 end
    end
    key = value + 1
  end
end
for i = 2, last_message, 2 do
  redis.call('PUBLISH', ARGV[i], ARGV[i + 1])
end
return {set, stale, failed}
