-- member, epoch, applied, nonce. Gives no lease. What the server is has to be looked at whenever something is told: a
-- replica that was just promoted must not announce what the old primary's members had acknowledged.
local c = redis.call('HMGET', STATE, 'epoch', 'acked')
if c[1] ~= ARGV[2] then return 'E' end
redis.call('ZADD', MEMBERS, 'XX', 'GT', ARGV[3], ARGV[1])
if tonumber(redis.call('ZRANGE', MEMBERS, 0, 0, 'WITHSCORES')[2] or '0') > tonumber(c[2] or '0') then
  local epoch, _, least = incarnation(ARGV[4])
  if epoch ~= ARGV[2] then return 'E' end
  acked(epoch, least)
end
return 'O'
