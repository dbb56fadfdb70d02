local group, leases, owners, records, changes, writers = unpack(KEYS)
local operation, ttl = ARGV[1], tonumber(ARGV[2])
local known_epoch, latest, most = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local known_version, known_mark = tonumber(ARGV[6]), ARGV[7]
local own = ARGV[8]  -- "<token> <member>" of each lease that the caller has here, NUL between
local DAY = 86400000000
local MARKS = 256  -- versions whose marks are kept, and 4 for each member: who knows none reads all
local PATCHES = 4  -- the last changes of a record that are kept as patches
local CROWD, HOLD, LONGEST = 16, 1000, 1000000
-- Above CROWD members, records that change within HOLD microseconds for each member after a message
-- are not announced one by one: LONGEST at most. Whoever reads meanwhile is told how long to wait.
local function expire_in_a_day()
    for _, key in ipairs(KEYS) do
        redis.call('PEXPIRE', key, DAY / 1000)
    end
end

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

local function digits(number)
    return string.format('%.0f', number)  -- else Lua prints large ones with an exponent
end

local function lease_of(member)
    local found = redis.call('HGET', owners, member)
    if not found then
        return nil
    end
    local runs, sequence, token, incarnation = string.match(found, '^(%d+) (%d+) (%x+) (.*)$')
    return {ttl = tonumber(runs), sequence = tonumber(sequence),
            token = token, incarnation = incarnation}
end

local replication = redis.call('INFO', 'replication')
if not string.find(replication, 'role:master', 1, true) then
    return redis.error_reply('READONLY this server is a replica, or just became one')
end
local identity = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
    .. ':' .. string.match(replication, 'master_replid:(%w+)')
local _, online = string.gsub(replication, 'state=online', '')

local changed, urgent, back = false, false, 0
local version, since, floor, born

-- First among the writes, because it is one that a full store refuses: then nothing has happened.
local function bump(may_wait)
    urgent = urgent or not may_wait
    if not changed then
        version = redis.call('HINCRBY', group, 'version', 1)
        redis.call('HSET', group, 'm' .. version, digits(now))
        local keep = MARKS + 4 * redis.call('ZCARD', leases)
        -- A driver of an earlier release has removed what is older than this itself.
        redis.call('HSETNX', group, 'oldest', math.max(0, version - MARKS))
        local oldest = tonumber(redis.call('HGET', group, 'oldest'))
        local last = math.min(oldest + 3, version - keep)
        for gone = oldest, last do
            redis.call('HDEL', group, 'm' .. gone)
        end
        if last >= oldest then
            redis.call('HSET', group, 'oldest', last + 1)
        end
        changed = true
    end
end

-- After the time stepped back or the server changed, no lease may run longer than its ttl.
local function clip()
    local far = redis.call('ZRANGEBYSCORE', leases, '(' .. digits(now), '(inf')
    for _, member in ipairs(far) do
        local latest = now + lease_of(member).ttl
        if tonumber(redis.call('ZSCORE', leases, member)) > latest then
            redis.call('ZADD', leases, digits(latest), member)
        end
    end
end

if redis.call('EXISTS', unpack(KEYS)) < #KEYS then
    redis.call('DEL', unpack(KEYS))
    version, since, floor, born, changed, urgent = 0, now, 0, digits(now), true, true
    redis.call('HSET', group, 'identity', identity, 'since', digits(now), 'version', 0,
               'floor', 0, 'clock', digits(now), 'born', born, 'm0', born)
    redis.call('ZADD', leases, 'inf', '')
    redis.call('HSET', owners, '', '')
    redis.call('HSET', records, '', '')
    redis.call('ZADD', changes, 0, '')
    redis.call('HSET', writers, '', '')
    expire_in_a_day()
else
    local state = redis.call('HMGET', group,
                             'identity', 'since', 'version', 'floor', 'clock', 'born')
    since, version, floor = tonumber(state[2]), tonumber(state[3]), tonumber(state[4])
    born = state[6]
    local stepped_back = now < tonumber(state[5]) - 1000000
    if state[1] ~= identity or stepped_back then
        bump()
        if state[1] ~= identity or since > now then
            since = now
        end
        redis.call('HSET', group, 'identity', identity, 'since', digits(since),
                   'clock', digits(now))
        clip()
    elseif known_epoch == identity .. ':' .. born then
        local mark = redis.call('HGET', group, 'm' .. known_version)
        if known_version > version or (mark and known_mark ~= '' and mark ~= known_mark) then
            bump()
            since, born, back = now, digits(now), 1
            redis.call('HSET', group, 'since', born, 'born', born)
            clip()
        end
    end
end

-- When each of the caller's own leases ends, before anything is done about it: -1 if it is gone, -2
-- if it is another's now.
local ends_of_own = {}
for token, member in string.gmatch(own, '(%x+) ([^%z]+)') do
    local lease = lease_of(member)
    local score = redis.call('ZSCORE', leases, member)
    local there = lease and lease.token == token and score
    ends_of_own[#ends_of_own + 1] = there and tonumber(score) or lease and score and -2 or -1
end

-- The most replicas that this server, or one that it replaced, ever listed. A call may know more:
-- the group was perhaps forgotten since.
local listed = tonumber(redis.call('HGET', group, 'replicas') or 0)
most = math.max(most, online, listed)
if most > listed then
    redis.call('HSET', group, 'replicas', most)
end

local function remove(member)
    bump()
    redis.call('ZADD', changes, version, member)
    redis.call('ZREM', leases, member)
    redis.call('HDEL', owners, member)
    redis.call('HDEL', records, member)
    redis.call('HDEL', group, 'q:' .. member, 'p:' .. member, 'd:' .. member)
    if redis.call('ZCARD', leases) == 1 then
        expire_in_a_day()
    end
end

local expired = redis.call('ZRANGEBYSCORE', leases, '-inf', digits(now))
for _, member in ipairs(expired) do
    remove(member)
end
-- Of two clocks the caller knows this one, and says how late it may be by now. If it is later, or
-- the caller is new here, the clock may have stepped, and where that ended every lease, nobody who
-- would know it is left for the others to wait for.
if #expired > 0 and redis.call('ZCARD', leases) == 1
        and (known_epoch ~= identity .. ':' .. born or now > latest) then
    since = now
    redis.call('HSET', group, 'since', digits(now))
end

-- Removals stay in `changes` for those who read increments, but not for ever.
if redis.call('ZCARD', changes) > 2 * redis.call('ZCARD', leases) + 64 then
    bump()
    floor = version
    redis.call('HSET', group, 'floor', floor)
    for _, member in ipairs(redis.call('ZRANGE', changes, 0, -1)) do
        if not redis.call('ZSCORE', leases, member) then
            redis.call('ZREM', changes, member)
        end
    end
end

local function answer(status, ...)
    local hold = redis.call('ZCARD', leases) - 1
    hold = hold > CROWD and math.min(hold * HOLD, LONGEST) or 0
    local spoken = redis.call('HMGET', group, 'said', 'told')
    local said, told = tonumber(spoken[1] or -1), tonumber(spoken[2] or 0)
    if changed and (urgent or now >= told + hold or now < told) then
        -- pcall: a user without the right to publish costs the others a poll, not the write.
        redis.pcall('PUBLISH', group, version)
        said, told = version, now
        redis.call('HSET', group, 'said', said, 'told', digits(told))
    end
    local held = (now < told or now >= told + hold) and 0 or told + hold - now
    local first = redis.call('ZRANGE', leases, 0, 0, 'WITHSCORES')
    local ends = -1
    if first[1] ~= '' then
        ends = tonumber(first[2])
    end
    -- What the caller has told of the group itself is not told again.
    local epoch, mark = identity .. ':' .. born, redis.call('HGET', group, 'm' .. version) or ''
    local same = known_epoch == epoch
    if same and known_version == version and known_mark == mark then
        mark = '='
    end
    return {status, same and '=' or epoch, version, now, since, online, most, ends,
            mark, back, ends_of_own, said, held, ...}
end

-- Whether this is older than a write of the same driver that was applied already.
local function outdated(token, sequence)
    local last = redis.call('HGET', writers, token)
    if last and tonumber(string.match(last, '^%d+')) > sequence then
        return true
    end
    redis.call('HSET', writers, token, sequence .. ' ' .. digits(now))
    return false
end

-- Forget the writes of drivers that have no lease. A join from before this is refused: it does not
-- know the version that this makes.
local function forget_writers()
    if redis.call('HLEN', writers) <= 2 * redis.call('ZCARD', leases) + 64 then
        return
    end
    local present = {['']=true}
    for _, lease in ipairs(redis.call('HVALS', owners)) do
        present[string.match(lease, '^%d+ %d+ (%x+) ') or ''] = true
    end
    for _, token in ipairs(redis.call('HKEYS', writers)) do
        if not present[token] then
            redis.call('HDEL', writers, token)
        end
    end
    bump()
    redis.call('HSET', group, 'forgotten', version)
end

-- Four bytes that tell a record from another.
local function checksum(record)
    return struct.pack('>I', tonumber(string.sub(redis.sha1hex(record), 1, 8), 16))
end

-- A text after its length: one byte, or 255 and two.
local function sized(text)
    if #text < 255 then
        return string.char(#text) .. text
    end
    return '\255' .. struct.pack('>H', #text) .. text
end

-- Keep how a record changed from the version `before` on, for those who know what it was then.
-- A patch has the checksum of the record that it is for, a part that other members' patches may
-- share, and the member's own (see patches.py). It is kept as readers get it, so that nobody who
-- reads makes the script look into it: after a checksum of the new record the latest steps, the
-- last one first, each with the versions from which and to which, and the parts after their sizes.
local STEP = '>ddHH'
local function keep_patch(member, before, old, record, patch)
    local field = 'q:' .. member
    local base, shared, particular = patch[1], patch[2], patch[3]
    if not (old and before and particular) or #shared + #particular > 16384
            or base ~= checksum(old) then
        redis.call('HDEL', group, field)
        return
    end
    local steps = {checksum(record),
                   struct.pack(STEP, tonumber(before), version, #shared, #particular),
                   shared, particular}
    local kept = redis.call('HGET', group, field)
    local last = kept and #kept > 4 and struct.unpack('>d', kept, 13)
    if last == tonumber(before) then  -- else a driver of an earlier release wrote in between
        local at = 5
        for _ = 2, PATCHES do
            if at <= #kept then
                local _, _, heads, tails, begin = struct.unpack(STEP, kept, at)
                at = begin + heads + tails
            end
        end
        steps[#steps + 1] = string.sub(kept, 5, at - 1)
    end
    redis.call('HSET', group, field, table.concat(steps))
end

-- Patches of members that went while a driver of an earlier release removed them.
local function forget_patches()
    if redis.call('HLEN', group) <= MARKS + 6 * redis.call('ZCARD', leases) + 64 then
        return
    end
    for _, field in ipairs(redis.call('HKEYS', group)) do
        local kind = string.sub(field, 1, 2)
        -- `d:` and `p:`: what earlier releases kept.
        if kind == 'd:' or kind == 'p:'
                or kind == 'q:' and not redis.call('ZSCORE', leases, string.sub(field, 3)) then
            redis.call('HDEL', group, field)
        end
    end
end

local function store(member, lease, record, patch)
    local old = redis.call('HGET', records, member)
    if old ~= record then
        local before = redis.call('ZSCORE', changes, member)
        bump(old)
        redis.call('ZADD', changes, version, member)
        redis.call('HSET', records, member, record)
        keep_patch(member, before, old, record, patch)
    end
    redis.call('HSET', owners, member, string.format(
        '%s %s %s %s', digits(lease.ttl), digits(lease.sequence), lease.token, lease.incarnation))
end

-- What changed since a version that the caller knows: whole records, and with patches, for those
-- of which the caller has the record of that version, what is other in them. What is the same in
-- several patches is sent once.
local function since_version(known, patches)
    local found, strings, number, entries = {}, {}, {}, {}
    local function index(text)
        local packed = number[text]
        if not packed then
            packed = struct.pack('>H', #strings)
            number[text] = packed
            strings[#strings + 1] = struct.pack('>H', #text) .. text
        end
        return packed
    end
    -- The patches of one member as the reader takes them; nil where it has to have the record.
    local function entry(member, at, kept)
        if not kept or #strings > 60000 then
            return nil
        end
        local steps, count, place = '', 0, 5
        repeat
            if place > #kept then
                return nil
            end
            local from, to, heads, tails, begin = struct.unpack(STEP, kept, place)
            if to ~= at then
                return nil
            end
            at, count, place = from, count + 1, begin + heads + tails
            steps = steps .. index(string.sub(kept, begin, begin + heads - 1))
                    .. string.sub(kept, begin + heads, place - 1)
        until from <= known
        return sized(member) .. string.sub(kept, 1, 4) .. string.char(count) .. steps
    end
    local late = redis.call('ZRANGEBYSCORE', changes, '(' .. known, '+inf', 'WITHSCORES')
    for begin = 1, #late, 1000 do
        local fields, kept = {}, {}
        local last = math.min(begin + 999, #late)
        for i = begin, last, 2 do
            fields[#fields + 1] = 'q:' .. late[i]
        end
        if patches then
            kept = redis.call('HMGET', group, unpack(fields))
        end
        for i = begin, last, 2 do
            local member = late[i]
            local made = entry(member, tonumber(late[i + 1]), kept[(i - begin) / 2 + 1])
            if made then
                entries[#entries + 1] = made
            else
                found[#found + 1] = member
                found[#found + 1] = redis.call('HGET', records, member)
            end
        end
    end
    return found, table.concat(strings), table.concat(entries)
end

if operation == 'look' then
    return answer('ok')
end

if operation == 'read' then
    local epoch, known, known_to_be, patches = ARGV[9], tonumber(ARGV[10]), ARGV[11], ARGV[12]
    local size = redis.call('HLEN', records) - 1
    local mark = redis.call('HGET', group, 'm' .. known)
    if epoch ~= identity .. ':' .. born or known < floor or known > version
            or mark ~= known_to_be then
        return answer('all', size, redis.call('HGETALL', records))
    end
    return answer('changes', size, since_version(known, patches == '1'))
end

if operation == 'doubt' then
    bump()
    since = now
    redis.call('HSET', group, 'since', digits(now))
    return answer('ok')
end

local token = ARGV[9]

if operation == 'heartbeat' then
    local lost, behind = {}, {}
    for i = 10, #ARGV, 3 do
        local member, incarnation, sequence = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2])
        local lease = lease_of(member)
        if not lease or lease.token ~= token or lease.incarnation ~= incarnation then
            lost[#lost + 1] = member
        else
            redis.call('ZADD', leases, digits(now + ttl), member)
            if lease.sequence < sequence then
                behind[#behind + 1] = member
            end
        end
    end
    redis.call('HSET', group, 'clock', digits(now))
    return answer('ok', lost, behind)
end

local sequence, member = tonumber(ARGV[10]), ARGV[11]
local incarnation, record = ARGV[12], ARGV[13]
local patch = {}
for i = 14, #ARGV do
    patch[#patch + 1] = ARGV[i]
end
local lease = lease_of(member)
local mine = lease and lease.token == token and lease.incarnation == incarnation

if (operation == 'join' or operation == 'seize') and not mine then
    local forgotten = tonumber(redis.call('HGET', group, 'forgotten') or -1)
    if known_epoch ~= identity .. ':' .. born or known_version < forgotten then
        return answer('stale')
    end
end
if operation == 'publish' and not mine or operation == 'seize' and not lease then
    return answer('lost')
end
if outdated(token, sequence) then
    return answer('outdated')
end
-- The lease knows as well: an entry of `writers` may have been lost alone.
if lease and lease.token == token and lease.sequence > sequence then
    return answer('outdated')
end

if operation == 'leave' then
    if lease and lease.token == token then
        remove(member)
    end
    forget_writers()
    return answer('ok')
end

if operation == 'publish' then
    lease.sequence = sequence
    store(member, lease, record, patch)
    forget_patches()
    -- The number of this write: one more than the last, or the time, where that was forgotten.
    local number = math.max(now, tonumber(redis.call('HGET', group, 'number') or 0) + 1)
    redis.call('HSET', group, 'number', digits(number))
    return answer('ok', number)
end

if operation == 'join' or operation == 'seize' then
    if lease and not mine and operation == 'join' then
        local left = tonumber(redis.call('ZSCORE', leases, member)) - now
        return answer('exists', lease.incarnation, left)
    end
    lease = {ttl = ttl, sequence = sequence, token = token, incarnation = incarnation}
    store(member, lease, record, patch)
    redis.call('ZADD', leases, digits(now + ttl), member)
    for _, key in ipairs(KEYS) do
        redis.call('PERSIST', key)
    end
    forget_writers()
    return answer('ok')
end

return redis.error_reply('ERR no such operation')
