-- member, beat, epoch, nonce. Another beat than the one that was seen says that the member lives; in another epoch the same
-- number is another beat.
local epoch, _, least = incarnation(ARGV[4])
local beat = redis.call('ZSCORE', BEATS, ARGV[1])
if epoch ~= ARGV[3] or not beat or int(tonumber(beat)) ~= ARGV[2] then return '0' end
forget(ARGV[1])
acked(epoch, least)
return '1'
