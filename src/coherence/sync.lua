-- member, epoch or '-', applied, mode (S U L G), quarantined (0 1), fingerprint, nonce
local member, known, applied, mode = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local epoch, seq, least = incarnation(ARGV[7])
if not epoch then return 'U' end
local present = redis.call('ZSCORE', MEMBERS, member)
local alone = redis.call('ZCARD', MEMBERS) == (present and 1 or 0)
local fingerprint = redis.call('HGET', STATE, 'fp')
if fingerprint and fingerprint ~= ARGV[6] then
  if not alone then
    if present then forget(member) end
    return 'M'
  end
  epoch, seq, least = wipe(identity(), ARGV[7], seq + 1)
  fingerprint = false
end
if not fingerprint then redis.call('HSET', STATE, 'fp', ARGV[6]) end

local same = known == epoch
if (same and (mode == 'L' or mode == 'G')) or (not same and alone) then
  seq = append(epoch, 'F', '-', '-')
  redis.call('HSET', STATE, 'lf', int(seq))
end
if same and ARGV[5] == '1' and not redis.call('HGET', STATE, 'q') then
  seq = append(epoch, 'F', '-', '-')
  redis.call('HSET', STATE, 'q', int(seq))
end

local records = {}
local gap = false
if same and applied < seq then
  records = redis.call('XRANGE', LOG, int(applied + 1) .. '-0', '+', 'COUNT', 512)
  gap = not records[1] or records[1][1] ~= int(applied + 1) .. '-0'
end

-- A member that is not known yet, or no longer, starts at nothing acknowledged; nobody's acknowledgement goes back.
if present then
  if same and not gap then redis.call('ZADD', MEMBERS, 'GT', applied, member) end
else
  redis.call('ZADD', MEMBERS, (same and not gap) and applied or 0, member)
  redis.call('HINCRBY', STATE, 'nm', 1)
end
redis.call('ZADD', BEATS, redis.call('HINCRBY', STATE, 'n', 1), member)

if not same or gap then
  redis.call('HDEL', STATE, 's:' .. member)
  local c = redis.call('HMGET', STATE, 'lf', 'w', 'q')
  local first = redis.call('XRANGE', LOG, '-', '+', 'COUNT', 1)[1]
  local oldest = first and string.match(first[1], '^(%d+)') or '0'
  local lines = { 'E ' .. epoch .. ' ' .. int(seq) .. ' ' .. oldest .. ' ' .. (c[1] or '0') .. ' ' .. (c[2] or '0') .. ' '
    .. (c[3] or '0') .. ' ' .. int(copies) .. ' ' .. ((alone and not same) and '1' or '0') }
  local open = redis.call('HGETALL', OPEN)
  for index = 1, #open, 2 do
    lines[#lines + 1] = 'o ' .. open[index] .. ' ' .. string.match(open[index + 1], '^%d+:(.*)$')
  end
  return table.concat(lines, '\n')
end

-- A settled reading is confirmed by the next one of the same member, which says that the lease held when its reply came. A
-- fence needs no confirmation.
if mode == 'S' or mode == 'L' then
  local reading = redis.call('HINCRBY', STATE, 'w', 1)
  local mine = mode == 'L' and reading or tonumber(redis.call('HGET', STATE, 's:' .. member) or '0')
  if mine > tonumber(redis.call('HGET', STATE, 'cw') or '0') then redis.call('HSET', STATE, 'cw', int(mine)) end
  redis.call('HSET', STATE, 's:' .. member, int(reading))
end
least = acked(epoch, least)
local c = redis.call('HMGET', STATE, 'lf', 'cw', 'q')
local lines = { 'O ' .. int(seq) .. ' ' .. int(least) .. ' ' .. (c[1] or '0') .. ' ' .. (c[2] or '0') .. ' '
  .. (c[3] or '0') .. ' ' .. int(copies) .. ' ' .. int(redis.call('ZCARD', MEMBERS)) }
local silent = redis.call('ZRANGE', BEATS, 0, 2, 'WITHSCORES')
for index = 1, #silent, 2 do lines[#lines + 1] = 's ' .. silent[index] .. ' ' .. int(tonumber(silent[index + 1])) end
for _, line in ipairs((lines_of(records))) do lines[#lines + 1] = line end
return table.concat(lines, '\n')
