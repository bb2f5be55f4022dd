-- token, epoch, kind, payload, nonce. C N X end an announced write; without one C and N become P, and X is nothing.
-- P S B are appended as they are.
local token, kind, payload = ARGV[1], ARGV[3], ARGV[4]
local epoch, _, least = incarnation(ARGV[5])
if epoch ~= ARGV[2] then return 'E ' .. (epoch or '0') end
local open = redis.call('HGET', OPEN, token)
if not open and kind == 'X' then return 'O 0 0 ' .. int(least) .. ' ' .. int(copies) end
if kind == 'X' then payload = string.match(open, '^%d+:(.*)$') end
if not open and (kind == 'C' or kind == 'N') then kind = 'P' end
local seq = append(epoch, kind, token, payload)
if open then
  redis.call('HDEL', OPEN, token)
  redis.call('HINCRBY', STATE, 'no', -1)
end
return 'O ' .. int(seq) .. ' ' .. (open and '1' or '0') .. ' ' .. int(least) .. ' ' .. int(copies)
