-- token, epoch, kind, payload, nonce. C N X end an announced write; without one C and N become P, and X is nothing.
-- P S B are appended as they are, and end nothing: a table that folds them does not either.
local token, kind, payload = ARGV[1], ARGV[3], ARGV[4]
local epoch, _, least = incarnation(ARGV[5])
if epoch ~= ARGV[2] then return 'E ' .. (epoch or '0') end
local ends = kind == 'C' or kind == 'N' or kind == 'X'
local open = ends and redis.call('HGET', OPEN, token)
if kind == 'X' then
  if not open then return 'O 0 0 ' .. int(least) .. ' ' .. int(copies) end
  payload = string.match(open, '^%d+:(.*)$')
end
local seq = append(epoch, (ends and not open) and 'P' or kind, token, payload)
if open then
  redis.call('HDEL', OPEN, token)
  redis.call('HINCRBY', STATE, 'no', -1)
end
return 'O ' .. int(seq) .. ' ' .. (open and '1' or '0') .. ' ' .. int(least) .. ' ' .. int(copies)
