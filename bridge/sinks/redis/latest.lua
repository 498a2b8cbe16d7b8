-- One flush. Sets the latest values that are newer than the stored ones, then publishes.
--
-- KEYS[1]   the hash of all prices, `<venue>.prices`
-- KEYS[2..] the hash of each latest value, `<venue>.latest:<symbol>`
-- ARGV[1]   a time that is too far ahead to be true, in microseconds
-- ARGV[2]   the number of messages; then the channel and the payload of each message
-- then, for each group of fields: the field names, `restart_us`, the number of values, and the
-- contents of the fields, value by value in the order of KEYS. Each name and each content ends with
-- a line break. Ids and microseconds stay below 2^53, where Lua's numbers are exact.
-- The first field is the guard, which only increases, with two exceptions. An id may be lower if the
-- last field, its time, is more than `restart_us` younger: the ids have restarted. It is '' if this
-- does not apply. If the guard is a time, `restart_us` is 0, and a stored time that is too far ahead
-- guards nothing. The price, if any, is the second field.
--
-- Returns {values set, values that were not newer, the text of the last error of a value or '', the
-- numbers of the values that failed, the text of the last error of a message or '', the numbers of
-- the messages that failed}. Values are set before messages are published. If a value or a message
-- fails, all others are still set and published.
local function lines(text) return string.gmatch(text, '([^\n]*)\n') end
local function failure(reply) return type(reply) == 'table' and reply.err end
local ahead = tonumber(ARGV[1])
local set, stale, failed, failed_values = 0, 0, '', {}
local denied, denied_messages = '', {}
local symbol_at = #KEYS[1] - #'prices' + #'latest:' + 1
local last_message = 2 + 2 * tonumber(ARGV[2])
local key = 2
for group = last_message + 1, #ARGV, 4 do
  local fields, count = {}, 0
  for name in lines(ARGV[group]) do
    fields[2 * count + 1], count = name, count + 1
  end
  local guard, is_price, restart_us = fields[1], fields[3] == 'price', tonumber(ARGV[group + 1])
  local content = lines(ARGV[group + 3])
  for value = key, key + tonumber(ARGV[group + 2]) - 1 do
    for i = 1, count do fields[2 * i] = content() end
    local current = redis.pcall('HGET', KEYS[value], guard)
    local err = failure(current)
    local before = tonumber(current or nil) or -1
    local is_stale = not err and before >= tonumber(fields[2])
    if is_stale and restart_us == 0 then
      is_stale = before <= ahead
    elseif is_stale and restart_us then
      local time = tonumber(redis.call('HGET', KEYS[value], fields[2 * count - 1]) or nil) or -1
      is_stale = tonumber(fields[2 * count]) <= time + restart_us
    end
    if is_stale then
      stale = stale + 1
    else
      -- The price is set before its guard: if it fails, the guard must not prevent a retry.
      if not err and is_price then
        err = failure(redis.pcall('HSET', KEYS[1], string.sub(KEYS[value], symbol_at), fields[4]))
      end
      if not err then err = failure(redis.pcall('HSET', KEYS[value], unpack(fields))) end
      if err then
        failed = err .. ' (' .. KEYS[value] .. ')'
        failed_values[#failed_values + 1] = value - 1
      else
        set = set + 1
      end
    end
    key = value + 1
  end
end
for i = 3, last_message, 2 do
  local err = failure(redis.pcall('PUBLISH', ARGV[i], ARGV[i + 1]))
  if err then
    denied = err .. ' (' .. ARGV[i] .. ')'
    denied_messages[#denied_messages + 1] = (i - 1) / 2
  end
end
return {set, stale, failed, failed_values, denied, denied_messages}
