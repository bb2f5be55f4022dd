-- member, beat, nonce. Another beat than the one that was seen says that the member lives.
local beat = redis.call('ZSCORE', BEATS, ARGV[1])
if not beat or int(tonumber(beat)) ~= ARGV[2] then return '0' end
forget(ARGV[1])
local epoch, _, least = incarnation(ARGV[3])
if epoch then acked(epoch, least) end
return '1'
