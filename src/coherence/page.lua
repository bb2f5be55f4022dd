-- epoch, from. Old records, for a replica that has just joined.
if redis.call('HGET', STATE, 'epoch') ~= ARGV[1] then return 'E' end
local lines, last = lines_of(redis.call('XRANGE', LOG, ARGV[2] .. '-0', '+', 'COUNT', 2048))
table.insert(lines, 1, 'O ' .. (#lines == 2048 and int(last + 1) or '0'))
return table.concat(lines, '\n')
