-- Looks for a right that a flush or a heartbeat needs, and that the ACL denies.
--
-- KEYS[1] the hash of all prices, KEYS[2] the hash of a latest value, KEYS[3] the heartbeat
-- ARGV    channels
--
-- Returns the command with its key or channel, or '' if all rights are there. Redis before 7 cannot
-- tell.
if not redis.acl_check_cmd then return '' end
for _, command in ipairs({
  {'HSET', KEYS[1], 'field', 'value'},
  {'HGET', KEYS[2], 'field'},
  {'HSET', KEYS[2], 'field', 'value'},
  {'SET', KEYS[3], 'value', 'PX', '1'},
}) do
  if not redis.acl_check_cmd(unpack(command)) then return command[1] .. ' ' .. command[2] end
end
for _, channel in ipairs(ARGV) do
  if not redis.acl_check_cmd('PUBLISH', channel, '') then return 'PUBLISH ' .. channel end
end
return ''
