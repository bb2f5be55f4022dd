-- Prepended to each script. KEYS: state (hash), log (stream), open (hash), members (sorted set), beats (sorted set); all in
-- one slot. Every reply is one string (module log says how it reads).
--
-- state: id, epoch, seq, acked, nm (members), no (open writes), lf (last fence), w (settled readings), cw (newest
-- confirmed reading), q (the fence that ended the quarantine; 0 while it lasts), n (beats), fp (identity key; NONE before
-- the first member). All are there from the first moment of an epoch, so that a missing one is a loss.
if redis.replicate_commands then redis.replicate_commands() end
local STATE, LOG, OPEN, MEMBERS, BEATS = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local FIELDS = { 'id', 'epoch', 'seq', 'acked', 'nm', 'no', 'lf', 'w', 'cw', 'q', 'n', 'fp' }
local NAME = string.match(STATE, '^(.*):state$')
local NONE = '0000000000000000'
local KEEP = 65536

local function int(value) return string.format('%.0f', value) end

-- The pub/sub messages only hurry: a server or a user that may not publish must not stop the log.
local function ring(channel, message) redis.pcall('PUBLISH', NAME .. ':' .. channel, message) end

local copies = 0

-- What the server is: another run, another replication history. nil when it does not say, or not to this user.
local function identity()
  local server, replication = redis.pcall('INFO', 'server'), redis.pcall('INFO', 'replication')
  if type(server) ~= 'string' or type(replication) ~= 'string' then return nil end
  local run = string.match(server, 'run_id:(%x+)')
  local history = string.match(replication, 'master_replid:(%x+)')
  copies = tonumber(string.match(replication, 'connected_slaves:(%d+)') or '0')
  if run and history then return run .. history end
end

-- DEL comes first: a server without memory refuses only a script's first write, so this is done as a whole or not at all.
local function wipe(id, nonce, seq)
  redis.call('DEL', STATE, LOG, OPEN, MEMBERS, BEATS)
  redis.call('HSET', STATE, 'id', id, 'epoch', nonce, 'seq', int(seq), 'acked', '0', 'nm', '0', 'no', '0', 'lf', '0',
    'w', '0', 'cw', '0', 'q', '0', 'n', '0', 'fp', NONE)
  ring('bell', nonce .. ' ' .. int(seq) .. ' E - -')
  return nonce, seq, 0
end

-- How large a key is; nothing where somebody else's value stands.
local function size(command, key)
  local n = redis.pcall(command, key)
  return type(n) == 'number' and n or nil
end

-- The epoch, the last number and the greatest number that all members had acknowledged. Whenever something of ours is
-- missing, or the server is not the one that was, everything is forgotten and a new epoch begins. (A loss of the log alone
-- is not looked for: who needs a record that is gone finds a gap.)
local function incarnation(nonce)
  local id = identity()
  if not id then return nil end
  local c = redis.pcall('HMGET', STATE, unpack(FIELDS))
  if c.err then c = {} end
  local whole = c[1] == id and size('XLEN', LOG)
  for index = 1, #FIELDS do whole = whole and c[index] end
  if not whole or size('ZCARD', MEMBERS) ~= tonumber(c[5]) or size('ZCARD', BEATS) ~= tonumber(c[5])
    or size('HLEN', OPEN) ~= tonumber(c[6]) then
    return wipe(id, nonce, (tonumber(c[3] or '0') or 0) + 1)
  end
  return c[2], tonumber(c[3]), tonumber(c[4])
end

local function append(epoch, kind, token, payload)
  local seq = tonumber(redis.call('HGET', STATE, 'seq')) + 1
  redis.call('XADD', LOG, 'MAXLEN', '~', KEEP, int(seq) .. '-0', 'k', kind, 't', token, 'd', payload)
  redis.call('HSET', STATE, 'seq', int(seq))
  ring('bell', epoch .. ' ' .. int(seq) .. ' ' .. kind .. ' ' .. token .. ' ' .. payload)
  return seq
end

-- Looks how far everybody has applied, and tells if that is news. It never goes back: who joins later starts at the tail
-- of its time, with the writes that were open then.
local function acked(epoch, known)
  local least = tonumber(redis.call('ZRANGE', MEMBERS, 0, 0, 'WITHSCORES')[2] or '0')
  if least <= known then return known end
  redis.call('HSET', STATE, 'acked', int(least))
  ring('acks', epoch .. ' ' .. int(least))
  return least
end

local function forget(member)
  redis.call('ZREM', MEMBERS, member)
  redis.call('ZREM', BEATS, member)
  redis.call('HINCRBY', STATE, 'nm', -1)
end

local function lines_of(records)
  local lines, last = {}, 0
  for index, record in ipairs(records) do
    local number, f = string.match(record[1], '^(%d+)'), record[2]
    last = tonumber(number)
    lines[index] = 'r ' .. number .. ' ' .. f[2] .. ' ' .. f[4] .. ' ' .. f[6]
  end
  return lines, last
end
