-- member, epoch or '-', applied, mode (S U L G), quarantined (0 1), fingerprint, confirmed reading, nonce
local member, known, applied, mode, nonce = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[8]
local epoch, seq, least = incarnation(nonce)
if not epoch then return 'U' end
-- Somebody has applied what is not here: records were lost in a way that nothing else shows (a key restored by hand).
if known == epoch and applied > seq then epoch, seq, least = wipe(identity(), nonce, applied + 1) end
local present = redis.call('ZSCORE', MEMBERS, member)
local alone = redis.call('ZCARD', MEMBERS) == (present and 1 or 0)
local fingerprint = redis.call('HGET', STATE, 'fp')
if fingerprint ~= ARGV[6] then
  if fingerprint ~= NONE then
    -- Nothing is changed: if this was a member its lease may still run, and only its silence ends that.
    if not alone then return 'M' end
    epoch, seq, least = wipe(identity(), nonce, seq + 1)
    present = false
  end
  redis.call('HSET', STATE, 'fp', ARGV[6])
end

local same = known == epoch
if (same and (mode == 'L' or mode == 'G')) or (not same and alone) then
  seq = append(epoch, 'F', '-', '-')
  redis.call('HSET', STATE, 'lf', int(seq))
end
if same and ARGV[5] == '1' and redis.call('HGET', STATE, 'q') == '0' then
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
  local c = redis.call('HMGET', STATE, 'lf', 'w', 'q')
  local first = redis.call('XRANGE', LOG, '-', '+', 'COUNT', 1)[1]
  local oldest = first and string.match(first[1], '^(%d+)') or '0'
  local lines = { 'E ' .. epoch .. ' ' .. int(seq) .. ' ' .. oldest .. ' ' .. c[1] .. ' ' .. c[2] .. ' ' .. c[3] .. ' '
    .. int(copies) .. ' ' .. ((alone and not same) and '1' or '0') }
  local open = redis.call('HGETALL', OPEN)
  for index = 1, #open, 2 do
    lines[#lines + 1] = 'o ' .. open[index] .. ' ' .. string.match(open[index + 1], '^%d+:(.*)$')
  end
  return table.concat(lines, '\n')
end

-- A settled reading proves nothing yet: it may be executed long after it was sent, when its sender's lease has run out. Its
-- sender says so later, by its number, if the lease held when the reply came. (That another reading follows would not do:
-- several may have been sent before the first reply.) A fence needs no confirmation.
local reading, confirmed = 0, tonumber(ARGV[7])
if mode == 'S' or mode == 'L' then reading = redis.call('HINCRBY', STATE, 'w', 1) end
if mode == 'L' then confirmed = reading end
if confirmed > tonumber(redis.call('HGET', STATE, 'cw')) then redis.call('HSET', STATE, 'cw', int(confirmed)) end
least = acked(epoch, least)
local c = redis.call('HMGET', STATE, 'lf', 'cw', 'q')
local lines = { 'O ' .. int(seq) .. ' ' .. int(least) .. ' ' .. c[1] .. ' ' .. int(reading) .. ' ' .. c[2] .. ' ' .. c[3] .. ' '
  .. int(copies) .. ' ' .. int(redis.call('ZCARD', MEMBERS)) }
local silent = redis.call('ZRANGE', BEATS, 0, 2, 'WITHSCORES')
for index = 1, #silent, 2 do lines[#lines + 1] = 's ' .. silent[index] .. ' ' .. int(tonumber(silent[index + 1])) end
for _, line in ipairs((lines_of(records))) do lines[#lines + 1] = line end
return table.concat(lines, '\n')
