-- member, nonce
local epoch, _, least = incarnation(ARGV[2])
if not epoch or not redis.call('ZSCORE', MEMBERS, ARGV[1]) then return '0' end
forget(ARGV[1])
acked(epoch, least)
return '1'
