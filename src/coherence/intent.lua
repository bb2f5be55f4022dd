-- token, epoch, payload, nonce. Repeating it changes nothing.
local epoch, _, least = incarnation(ARGV[4])
if epoch ~= ARGV[2] then return 'E ' .. (epoch or '0') end
local open = redis.call('HGET', OPEN, ARGV[1])
local seq
if open then
  seq = tonumber(string.match(open, '^(%d+):'))
else
  seq = append(epoch, 'I', ARGV[1], ARGV[3])
  redis.call('HSET', OPEN, ARGV[1], int(seq) .. ':' .. ARGV[3])
  redis.call('HINCRBY', STATE, 'no', 1)
end
return 'O ' .. int(seq) .. ' 1 ' .. int(least) .. ' ' .. int(copies)
