-- epoch, from. Old records, for a replica that has just joined. A server that only has a copy of the log, or an older state
-- of it, would give a part for the whole.
local c = redis.call('HMGET', STATE, 'id', 'epoch')
if c[2] ~= ARGV[1] or c[1] ~= identity() then return 'E' end
local lines, last = lines_of(redis.call('XRANGE', LOG, ARGV[2] .. '-0', '+', 'COUNT', 2048))
table.insert(lines, 1, 'O ' .. (#lines == 2048 and int(last + 1) or '0'))
return table.concat(lines, '\n')
