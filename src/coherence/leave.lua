-- member, nonce
if not redis.call('ZSCORE', MEMBERS, ARGV[1]) then return '0' end
forget(ARGV[1])
local epoch, _, least = incarnation(ARGV[2])
if epoch then acked(epoch, least) end
return '1'
