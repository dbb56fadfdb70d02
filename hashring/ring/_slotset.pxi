# Part of _engine.pyx: ``SlotSet``, and the sinks that test a chunk of hashes against one.

MAX_SLOTS = 1 << 24


cdef int _bits_of(object slots) except -1:
    if isinstance(slots, bool) or not isinstance(slots, int):
        raise BadRing(f"slots must be an int, not {type(slots).__name__!r}")
    if not 1 <= slots <= MAX_SLOTS or slots & (slots - 1):
        raise BadRing(f"slots must be a power of two from 1 to {MAX_SLOTS}, not {slots}")
    return slots.bit_length() - 1


cdef Py_ssize_t _select(
    const uint32_t* top, Py_ssize_t count, int bits, const uint64_t* word, uint32_t* hits
) noexcept nogil:
    # Indices of the keys whose slot is in the set. No branch: who owns a key is random.
    cdef Py_ssize_t i, slot, found = 0
    for i in range(count):
        slot = _slot(top[i], bits)
        hits[found] = <uint32_t>i
        found += word[slot >> 6] >> (slot & 63) & 1
    return found


cdef int _collect(
    _Source source, const uint32_t* hits, Py_ssize_t found, list result
) except -1:
    # Appends the chunk's items at these indices. Their reference counts are written to, and in
    # Keys they have not been touched for long, so they are asked for ahead.
    cdef PyObject** items = source.objects()
    cdef Py_ssize_t i
    if items == NULL:
        for i in range(found):
            result.append(source.item(hits[i]))
        return 0
    for i in range(found):
        if i + FAR_AHEAD < found:
            HR_PREFETCH_TO_WRITE(items[hits[i + FAR_AHEAD]])
        result.append(<object>items[hits[i]])
    return 0


cdef void _test(
    const uint32_t* top, Py_ssize_t count, int bits, const uint64_t* word, char* out
) noexcept nogil:
    cdef Py_ssize_t i, slot
    for i in range(count):
        slot = _slot(top[i], bits)
        out[i] = <char>(word[slot >> 6] >> (slot & 63) & 1)


@cython.final
@cython.freelist(32)
cdef class SlotSet:
    """An immutable set of slots out of ``slots``: set operators, and checks of keys against it.

    ``&``, ``|``, ``-``, ``^``, ``<=``, ``<``, ``>=``, ``>`` and ``==`` work between sets of one
    universe. A key is in a set if the top bits of its hash name one of its slots.

    Attributes:
        slots: the size of the universe, a power of two.

    Example:
        >>> from hashring.ring import SlotSet
        >>> held = SlotSet.of([1, 2, 3], 64) & SlotSet.of([2, 3, 4], 64)
        >>> list(held), 2 in held, held <= SlotSet.full(64)
        ([2, 3], True, True)
    """

    def __cinit__(self, slots=65536):
        self.bits = _bits_of(slots)
        self.slots = slots
        self.words = (self.slots + 63) >> 6
        self.count = 0
        self.word = <uint64_t*>PyMem_Calloc(self.words, sizeof(uint64_t))
        if self.word == NULL:
            raise MemoryError

    def __dealloc__(self):
        PyMem_Free(self.word)

    cdef Py_ssize_t size(self) noexcept:
        cdef Py_ssize_t i, count = self.count
        if count < 0:
            count = 0
            for i in range(self.words):
                count += HR_POPCOUNT(self.word[i])
            self.count = count
        return count

    @staticmethod
    def empty(slots=65536):
        """Return the set of no slots."""
        return SlotSet(slots)

    @staticmethod
    def full(slots=65536):
        """Return the set of all slots."""
        cdef SlotSet result = SlotSet(slots)
        memset(result.word, 0xFF, result.words * sizeof(uint64_t))
        if result.slots < 64:
            result.word[0] = (<uint64_t>1 << result.slots) - 1
        result.count = result.slots
        return result

    @staticmethod
    def of(members, slots=65536):
        """Return the set of these slots. Raises BadRing for one outside the universe."""
        cdef SlotSet result = SlotSet(slots)
        cdef Py_ssize_t index
        for slot in members:
            if isinstance(slot, bool) or not isinstance(slot, int):
                raise BadRing(f"a slot is an int, not {type(slot).__name__!r}")
            if not 0 <= slot < result.slots:
                raise BadRing(f"slot {slot} does not exist: there are {result.slots}")
            index = slot
            result.word[index >> 6] |= <uint64_t>1 << (index & 63)
        result.count = -1
        return result

    @staticmethod
    def frombytes(data, slots=65536):
        """Return the set whose bitmap is ``data``: see :meth:`tobytes`."""
        cdef SlotSet result = SlotSet(slots)
        cdef bytes bitmap = bytes(data)
        cdef const uint8_t* source = <const uint8_t*>PyBytes_AS_STRING(bitmap)
        cdef Py_ssize_t i, size = (result.slots + 7) >> 3
        if len(bitmap) != size:
            raise BadRing(f"a bitmap of {slots} slots has {size} bytes, not {len(bitmap)}")
        if result.slots < 8 and source[0] >> result.slots:
            raise BadRing(f"the bitmap has slots beyond the {slots} that exist")
        for i in range(size):
            result.word[i >> 3] |= <uint64_t>source[i] << ((i & 7) << 3)
        result.count = -1
        return result

    def tobytes(self):
        """Return the bitmap: slot s is bit ``s % 8`` of byte ``s // 8``."""
        cdef Py_ssize_t i, size = (self.slots + 7) >> 3
        cdef bytes result = PyBytes_FromStringAndSize(NULL, size)
        cdef uint8_t* out = <uint8_t*>PyBytes_AS_STRING(result)
        for i in range(size):
            out[i] = <uint8_t>(self.word[i >> 3] >> ((i & 7) << 3))
        return result

    def __reduce__(self):
        return SlotSet.frombytes, (self.tobytes(), self.slots)

    def __len__(self):
        return self.size()

    def __bool__(self):
        cdef Py_ssize_t i
        if self.count >= 0:
            return self.count > 0
        for i in range(self.words):
            if self.word[i]:
                return True
        return False

    def __contains__(self, slot):
        cdef Py_ssize_t index
        if not isinstance(slot, int) or not 0 <= slot < self.slots:
            return False
        index = slot
        return bool(self.word[index >> 6] >> (index & 63) & 1)

    def __iter__(self):
        cdef Py_ssize_t i
        cdef uint64_t word
        cdef list found = []
        for i in range(self.words):
            word = self.word[i]
            while word:
                found.append((i << 6) + HR_TRAILING_ZEROS(word))
                word &= word - 1
        return iter(found)

    def __hash__(self):
        cdef uint64_t result = murmur(
            <const uint8_t*>self.word, self.words * sizeof(uint64_t), <uint32_t>self.bits
        )
        return <Py_ssize_t>(result >> 2)

    def __repr__(self):
        return f"<SlotSet: {self.size()} of {self.slots} slots>"

    def __and__(self, other):
        return _combined(self, other, AND)

    def __or__(self, other):
        return _combined(self, other, OR)

    def __sub__(self, other):
        return _combined(self, other, MINUS)

    def __xor__(self, other):
        return _combined(self, other, XOR)

    def __eq__(self, other):
        if not isinstance(other, SlotSet):
            return NotImplemented
        return self.slots == (<SlotSet>other).slots and _same(self, <SlotSet>other)

    def __le__(self, other):
        if not isinstance(other, SlotSet):
            return NotImplemented
        return _within(self, <SlotSet>other)

    def __lt__(self, other):
        if not isinstance(other, SlotSet):
            return NotImplemented
        return _within(self, <SlotSet>other) and not _same(self, <SlotSet>other)

    def __ge__(self, other):
        if not isinstance(other, SlotSet):
            return NotImplemented
        return _within(<SlotSet>other, self)

    def __gt__(self, other):
        if not isinstance(other, SlotSet):
            return NotImplemented
        return _within(<SlotSet>other, self) and not _same(self, <SlotSet>other)

    def isdisjoint(self, SlotSet other not None):
        """Return whether the two sets have no slot in common."""
        cdef Py_ssize_t i
        _check_universe(self, other)
        for i in range(self.words):
            if self.word[i] & other.word[i]:
                return False
        return True

    def owns(self, key):
        """Return whether a key's slot is in the set.

        Raises:
            BadKey: it is neither ``str`` nor ``bytes``, or has a lone surrogate.
        """
        cdef Py_ssize_t slot = _slot(<uint32_t>(_hash_one(key) >> 32), self.bits)
        return bool(self.word[slot >> 6] >> (slot & 63) & 1)

    def owned(self, keys, *, key=None):
        """Return those of ``keys`` whose slot is in the set, in order, as a list.

        Args:
            keys: :class:`Keys`, or any iterable of keys, or of objects if ``key`` is given.
            key: a callable that gives an object's key.

        Raises:
            BadKey: one is neither ``str`` nor ``bytes``, or has a lone surrogate.
        """
        cdef _Source source = _source(keys, key)
        cdef list result = []
        cdef Py_ssize_t found
        cdef uint32_t* hits = <uint32_t*>PyMem_Malloc(BIG_CHUNK * sizeof(uint32_t))
        if hits == NULL:
            raise MemoryError
        try:
            while True:
                source.fill()
                if source.count == 0:
                    return result
                if source.count > CHUNK:
                    with nogil:
                        found = _select(source.top, source.count, self.bits, self.word, hits)
                else:
                    found = _select(source.top, source.count, self.bits, self.word, hits)
                _collect(source, hits, found, result)
        finally:
            PyMem_Free(hits)

    def mask(self, keys, *, key=None):
        """Return a bytearray with 1 for each key whose slot is in the set, and 0 for the others.

        Arguments and errors are those of :meth:`owned`.
        """
        cdef _Source source = _source(keys, key)
        cdef Py_ssize_t done = 0, room = source.expected
        cdef char* out
        result = bytearray(room)
        while True:
            source.fill()
            if source.count == 0:
                if done != room:
                    PyByteArray_Resize(result, done)
                return result
            if done + source.count > room:
                room = done + source.count + (done >> 1)
                PyByteArray_Resize(result, room)
            out = PyByteArray_AS_STRING(result) + done
            if source.count > CHUNK:
                with nogil:
                    _test(source.top, source.count, self.bits, self.word, out)
            else:
                _test(source.top, source.count, self.bits, self.word, out)
            done += source.count


cdef int _check_universe(SlotSet left, SlotSet right) except -1:
    if left.slots != right.slots:
        raise BadRing(f"sets of {left.slots} and of {right.slots} slots cannot be combined")
    return 0


cdef enum _Operator:
    AND
    OR
    MINUS
    XOR


cdef inline object _combined(SlotSet left, object other, _Operator operator):
    # The choice stands outside of the loops, so that each becomes vectors; inline, so that each of
    # the four operators is compiled with its loop alone.
    cdef SlotSet right, result
    cdef Py_ssize_t i
    if not isinstance(other, SlotSet):
        return NotImplemented
    right = <SlotSet>other
    _check_universe(left, right)
    result = SlotSet.__new__(SlotSet, left.slots)
    result.count = -1
    if operator == AND:
        for i in range(result.words):
            result.word[i] = left.word[i] & right.word[i]
    elif operator == OR:
        for i in range(result.words):
            result.word[i] = left.word[i] | right.word[i]
    elif operator == MINUS:
        for i in range(result.words):
            result.word[i] = left.word[i] & ~right.word[i]
    else:
        for i in range(result.words):
            result.word[i] = left.word[i] ^ right.word[i]
    return result


cdef bint _same(SlotSet left, SlotSet right) noexcept:
    return memcmp(left.word, right.word, left.words * sizeof(uint64_t)) == 0


cdef bint _within(SlotSet left, SlotSet right) except -1:
    cdef Py_ssize_t i
    _check_universe(left, right)
    for i in range(left.words):
        if left.word[i] & ~right.word[i]:
            return False
    return True
