# Part of _engine.pyx: the table, from vnodes to owners, and what can be asked of it.

cdef inline uint64_t _mix(uint64_t value) noexcept nogil:
    # SplitMix64's finalizer (Steele, Lea, Flood 2014).
    value = (value ^ (value >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
    value = (value ^ (value >> 27)) * <uint64_t>0x94D049BB133111EB
    return value ^ (value >> 31)


cdef void _make_points(
    const uint64_t* streams, const uint32_t* counts, Py_ssize_t members,
    uint64_t* points, uint64_t* spare, Py_ssize_t total,
) noexcept nogil:
    # Fills `points` with every member's vnodes, sorted by point and then by member: a radix sort
    # of four passes, a byte each, to and fro between `points` and `spare`. It is stable, and
    # members come in order, so the 32 bits of the point are all that it must look at.
    cdef uint32_t[4][256] place
    cdef Py_ssize_t member, j, at = 0
    cdef uint64_t state, point
    cdef uint32_t start, count
    cdef int byte
    memset(place, 0, sizeof(place))
    for member in range(members):
        state = streams[member]
        for j in range(counts[member]):
            state += <uint64_t>0x9E3779B97F4A7C15
            point = _mix(state) >> 32
            points[at] = point << 32 | <uint64_t>member
            at += 1
            for byte in range(4):
                place[byte][point >> (8 * byte) & 255] += 1
    for byte in range(4):
        start = 0
        for j in range(256):
            count = place[byte][j]
            place[byte][j] = start
            start += count
    for byte in range(4):
        for at in range(total):
            point = points[at]
            j = point >> (32 + 8 * byte) & 255
            spare[place[byte][j]] = point
            place[byte][j] += 1
        points, spare = spare, points


cdef inline uint32_t _reversed(uint32_t value) noexcept nogil:
    # All 32 bits in the opposite order.
    value = (value & 0x55555555) << 1 | value >> 1 & 0x55555555
    value = (value & 0x33333333) << 2 | value >> 2 & 0x33333333
    value = (value & 0x0F0F0F0F) << 4 | value >> 4 & 0x0F0F0F0F
    value = (value & 0x00FF00FF) << 8 | value >> 8 & 0x00FF00FF
    return value << 16 | value >> 16


cdef void _place(
    const uint64_t* points, Py_ssize_t total, int bits,
    const uint32_t* capacities, uint32_t* loads, uint32_t* skip, uint32_t* table,
) noexcept nogil:
    # Consistent hashing with bounded loads: each slot, in bit-reversed order, goes to the next
    # point clockwise whose member has room. `skip[i]` leads from point i, once its member is
    # full, to a later one: members stay full, so that paths can be shortened as they are walked.
    cdef uint32_t count = <uint32_t>1 << bits, k, slot, at, first, following
    cdef uint64_t position
    cdef Py_ssize_t i = 0
    for slot in range(count):
        position = (<uint64_t>slot << 32) >> bits
        while i < total and (points[i] >> 32) < position:
            i += 1
        table[slot] = <uint32_t>(i if i < total else 0)
    for i in range(total):
        skip[i] = <uint32_t>(i + 1 if i + 1 < total else 0)
    for k in range(count):
        slot = <uint32_t>(<uint64_t>_reversed(k) >> (32 - bits))
        first = at = table[slot]
        while loads[<uint32_t>points[at]] >= capacities[<uint32_t>points[at]]:
            at = skip[at]
        while first != at:
            following = skip[first]
            skip[first] = at
            first = following
        loads[<uint32_t>points[at]] += 1
        table[slot] = <uint32_t>points[at]


cdef class Table:
    """Slot -> member, and what can be asked of it. ``HashRing`` is one that knows its members.

    Args:
        ids: the members that can own something, sorted.
        counts: each member's number of vnodes.
        capacities: the most slots that each member may own.
        slots: a power of two.
        seed: moves the vnodes.
    """

    def __cinit__(self, *args, **kwargs):
        self.ids = ()
        self.data = b""
        self.universe = 1

    def __init__(self, tuple ids not None, counts, capacities, slots, uint32_t seed):
        cdef Py_ssize_t i, members = len(ids), total = 0
        cdef uint32_t* limits = NULL
        cdef uint32_t* loads = NULL
        cdef uint32_t* skip = NULL
        cdef uint64_t* points = NULL
        cdef uint64_t* spare = NULL
        cdef uint32_t* table
        cdef int bits = _bits_of(slots)
        cdef bytes data
        if self.streams != NULL:
            raise TypeError("a ring does not change: make another")
        if len(counts) != members or len(capacities) != members:
            raise ValueError("ids, counts and capacities must be of one length")
        self.ids = ids
        self.universe = slots
        self.bits = bits
        self.streams = <uint64_t*>PyMem_Calloc(members + 1, sizeof(uint64_t))
        self.counts = <uint32_t*>PyMem_Calloc(members + 1, sizeof(uint32_t))
        if self.streams == NULL or self.counts == NULL:
            raise MemoryError
        if members == 0:
            return
        try:
            limits = <uint32_t*>PyMem_Calloc(members, sizeof(uint32_t))
            loads = <uint32_t*>PyMem_Calloc(members, sizeof(uint32_t))
            if limits == NULL or loads == NULL:
                raise MemoryError
            i = 0
            for id, count, capacity in zip(ids, counts, capacities, strict=True):
                self.streams[i] = _hash_one(id, seed)
                self.counts[i] = count
                limits[i] = capacity
                total += self.counts[i]
                i += 1
            if sum(capacities) < slots or min(counts) < 1 or total >= 1 << 31:
                raise ValueError("counts or capacities are out of range")
            points = <uint64_t*>PyMem_Malloc(total * sizeof(uint64_t))
            spare = <uint64_t*>PyMem_Malloc(total * sizeof(uint64_t))
            if points == NULL or spare == NULL:
                raise MemoryError
            skip = <uint32_t*>spare  # free again once the points are sorted
            data = PyBytes_FromStringAndSize(NULL, self.universe * sizeof(uint32_t))
            table = <uint32_t*>PyBytes_AS_STRING(data)
            with nogil:
                _make_points(self.streams, self.counts, members, points, spare, total)
                _place(points, total, bits, limits, loads, skip, table)
            self.data = data
            self.owner_of = table
            self.total = total
        finally:
            PyMem_Free(limits)
            PyMem_Free(loads)
            PyMem_Free(points)
            PyMem_Free(spare)

    def __dealloc__(self):
        PyMem_Free(self.streams)
        PyMem_Free(self.counts)
        PyMem_Free(self.points)

    cdef int need_points(self) except -1:
        cdef uint64_t* points
        cdef uint64_t* spare
        if self.points != NULL:
            return 0
        points = <uint64_t*>PyMem_Malloc(self.total * sizeof(uint64_t))
        spare = <uint64_t*>PyMem_Malloc(self.total * sizeof(uint64_t))
        if points != NULL and spare != NULL:
            _make_points(
                self.streams, self.counts, PyTuple_GET_SIZE(self.ids), points, spare, self.total
            )
        PyMem_Free(spare)
        if points == NULL or spare == NULL:
            PyMem_Free(points)
            raise MemoryError
        self.points = points
        return 0

    @property
    def table(self):
        """Slot -> index in :attr:`ids`, as a read-only memoryview of native uint32.

        Empty where no member can own a key.
        """
        return memoryview(self.data).cast("I")

    def slot(self, key):
        """Return a key's slot."""
        return _slot(<uint32_t>(_hash_one(key) >> 32), self.bits)

    def owner(self, key):
        """Return the id of the member that owns a key.

        Raises:
            BadKey: it is neither ``str`` nor ``bytes``, or has a lone surrogate.
            EmptyRing: the ring has no member that can own a key.
        """
        cdef uint64_t top = _hash_one(key) >> 32
        if self.owner_of == NULL:
            raise EmptyRing("the ring has no member of weight above 0: nobody owns a key")
        return <object>PyTuple_GET_ITEM(
            self.ids, self.owner_of[_slot(<uint32_t>top, self.bits)]
        )

    def owners(self, key, Py_ssize_t n):
        """Return up to ``n`` distinct members by preference; the first one owns the key.

        The others follow clockwise. Fewer come back where fewer can own something.

        Raises:
            BadKey, EmptyRing: as :meth:`owner`.
            BadRing: ``n`` is less than 1.
        """
        cdef uint64_t top = _hash_one(key) >> 32, position
        cdef Py_ssize_t slot, low = 0, high, middle
        if n < 1:
            raise BadRing(f"owners() needs n of at least 1, not {n}")
        if self.owner_of == NULL:
            raise EmptyRing("the ring has no member of weight above 0: nobody owns a key")
        self.need_points()
        slot = _slot(<uint32_t>top, self.bits)
        position = (<uint64_t>slot << 32) >> self.bits
        high = self.total
        while low < high:
            middle = (low + high) >> 1
            if (self.points[middle] >> 32) < position:
                low = middle + 1
            else:
                high = middle
        found = {self.ids[self.owner_of[slot]]: None}
        n = min(n, PyTuple_GET_SIZE(self.ids))
        while len(found) < n:  # each member has a point, so this ends within one round
            if low == self.total:
                low = 0
            found[self.ids[<uint32_t>self.points[low]]] = None
            low += 1
        return list(found)

    def slots_of(self, Py_ssize_t member):
        """Return the slots of the member at an index of :attr:`ids`."""
        cdef SlotSet result = SlotSet(self.universe)
        cdef Py_ssize_t i
        cdef uint32_t wanted = <uint32_t>member
        if not 0 <= member < PyTuple_GET_SIZE(self.ids):
            raise UnknownMember(f"there is no member at index {member}")
        for i in range(self.universe):
            result.word[i >> 6] |= <uint64_t>(self.owner_of[i] == wanted) << (i & 63)
        result.count = -1
        return result

    def shares(self, keys, *, key=None):
        """Return the keys of each member as lists in the order of :attr:`ids`.

        Raises:
            BadKey: as :meth:`SlotSet.owned`.
            EmptyRing: there are keys, but no member that can own one.
        """
        cdef _Source source = _source(keys, key)
        cdef list result = [[] for _ in self.ids]
        cdef PyObject** shares = _list_items(result)
        cdef PyObject** items
        cdef Py_ssize_t i
        cdef uint32_t owner
        while True:
            source.fill()
            if source.count == 0:
                return result
            if self.owner_of == NULL:
                raise EmptyRing("the ring has no member of weight above 0: nobody owns a key")
            items = source.objects()
            for i in range(source.count):
                owner = self.owner_of[_slot(source.top[i], self.bits)]
                if items == NULL:
                    (<list>shares[owner]).append(source.item(i))
                else:
                    if i + FAR_AHEAD < source.count:
                        HR_PREFETCH_TO_WRITE(items[i + FAR_AHEAD])
                    (<list>shares[owner]).append(<object>items[i])
