# Part of _engine.pyx: sources, which hash the next chunk of keys, whatever the keys are kept in.
# Arrow's arrays have a file of their own.

cdef class _Source:
    """Hashes keys chunk by chunk: ``top[0:count]`` are the hashes of the chunk in hand."""

    cdef const uint32_t* top
    cdef Py_ssize_t count
    cdef Py_ssize_t expected        # keys in all as far as is known beforehand, else 0
    cdef uint32_t* own              # the memory behind `top`, if it is this object's

    def __dealloc__(self):
        PyMem_Free(self.own)

    cdef int reserve(self, Py_ssize_t size) except -1:
        self.own = <uint32_t*>PyMem_Malloc(size * sizeof(uint32_t))
        if self.own == NULL:
            raise MemoryError
        self.top = self.own
        return 0

    cdef int fill(self) except -1:
        """Hash the next chunk; no keys are left where ``count`` becomes 0."""
        raise NotImplementedError

    cdef object item(self, Py_ssize_t i):
        """Return what the caller gave as the chunk's i-th key."""
        raise NotImplementedError

    cdef PyObject** objects(self) noexcept:
        """Return the chunk's items where they lie in memory as objects, else NULL."""
        return NULL


@cython.final
cdef class _SequenceSource(_Source):
    """A list or a tuple. A list may shrink or grow between two chunks, never within one."""

    cdef object keys
    cdef bint is_list
    cdef Py_ssize_t begin, end

    def __init__(self, keys):
        self.keys = keys
        self.is_list = isinstance(keys, list)
        self.expected = len(keys)
        self.reserve(CHUNK)

    cdef int fill(self) except -1:
        cdef PyObject** items
        cdef Py_ssize_t i, size, stop, ahead
        cdef uint64_t result = 0
        cdef int reason
        cdef uint32_t* own = self.own
        if self.is_list:
            size = PyList_GET_SIZE(self.keys)
            items = _list_items(self.keys)
        else:
            size = PyTuple_GET_SIZE(self.keys)
            items = _tuple_items(self.keys)
        self.begin = self.end
        stop = min(self.begin + CHUNK, size)
        ahead = min(stop + AHEAD, size)
        for i in range(self.begin, stop):
            if i + AHEAD < ahead:
                # The header with the length, and the rest of a string of usual size.
                HR_PREFETCH(items[i + AHEAD])
                HR_PREFETCH(<char*>items[i + AHEAD] + 64)
            reason = _hash_object(items[i], 0, &result)
            if reason != HASHED:
                _refuse(<object>items[i], reason, i)
            own[i - self.begin] = <uint32_t>(result >> 32)
        self.end = max(stop, self.begin)
        self.count = self.end - self.begin
        return 0

    cdef PyObject** objects(self) noexcept:
        if self.is_list:
            return _list_items(self.keys) + self.begin
        return _tuple_items(self.keys) + self.begin


@cython.final
cdef class _IteratorSource(_Source):
    """Any iterable, and objects whose key a callable gives: the chunk holds its items."""

    cdef object iterator, key
    cdef list chunk
    cdef Py_ssize_t done

    def __init__(self, keys, key):
        self.iterator = iter(keys)
        self.key = key
        self.reserve(CHUNK)

    cdef int fill(self) except -1:
        cdef uint64_t result = 0
        cdef int reason
        cdef object item, key
        cdef Py_ssize_t n = 0
        cdef list chunk = []
        self.count = 0
        for item in self.iterator:
            key = item if self.key is None else self.key(item)
            reason = _hash_object(<PyObject*>key, 0, &result)
            if reason != HASHED:
                _refuse(key, reason, self.done + n)
            self.own[n] = <uint32_t>(result >> 32)
            chunk.append(item)
            n += 1
            if n == CHUNK:
                break
        self.chunk = chunk
        self.done += n
        self.count = n
        return 0

    cdef PyObject** objects(self) noexcept:
        return _list_items(self.chunk)


@cython.final
cdef class _KeysSource(_Source):
    """:class:`Keys`: nothing to hash. Holds the arrays of one moment, whatever happens to it."""

    cdef tuple items
    cdef bytes hashes
    cdef Py_ssize_t begin, end

    def __init__(self, Keys keys):
        self.items = keys.items
        self.hashes = keys.hashes
        self.expected = PyTuple_GET_SIZE(self.items)

    cdef int fill(self) except -1:
        self.begin = self.end
        self.end = min(self.begin + BIG_CHUNK, self.expected)
        self.top = <const uint32_t*>PyBytes_AS_STRING(self.hashes) + self.begin
        self.count = self.end - self.begin
        return 0

    cdef PyObject** objects(self) noexcept:
        return _tuple_items(self.items) + self.begin


@cython.final
cdef class _BufferSource(_Source):
    """A one-dimensional array of strings of one length, such as NumPy's ``S36`` or ``U36``.

    As in NumPy, zeros at a string's end are padding.
    """

    cdef Py_buffer view
    cdef bint is_open, is_text
    cdef Py_ssize_t begin, end, width, step

    def __init__(self, keys, is_text):
        PyObject_GetBuffer(keys, &self.view, PyBUF_RECORDS_RO)
        self.is_open = True
        self.is_text = is_text
        self.width = self.view.itemsize // (4 if is_text else 1)
        self.step = self.view.strides[0]
        self.expected = self.view.shape[0]
        self.reserve(BIG_CHUNK)

    def __dealloc__(self):
        if self.is_open:
            PyBuffer_Release(&self.view)

    cdef bint is_aligned(self) noexcept:
        # A field of a packed record need not lie where characters of four bytes may.
        return not (self.is_text and (<size_t>self.view.buf | <size_t>self.step) & 3)

    cdef Py_ssize_t measure(self, const char* data) noexcept nogil:
        cdef Py_ssize_t length = self.width
        if self.is_text:
            while length and (<const uint32_t*>data)[length - 1] == 0:
                length -= 1
        else:
            while length and data[length - 1] == 0:
                length -= 1
        return length

    cdef Py_ssize_t hash_some(self, Py_ssize_t count) noexcept nogil:
        # The number hashed: less than `count` where one has no UTF-8 form.
        cdef const char* data = <const char*>self.view.buf + self.begin * self.step
        cdef uint64_t result = 0
        cdef Py_ssize_t i, length
        for i in range(count):
            length = self.measure(data)
            if not self.is_text:
                result = murmur(<const uint8_t*>data, length, 0)
            elif _hash_text(4, data, length, 0, &result) != HASHED:
                return i
            self.own[i] = <uint32_t>(result >> 32)
            data += self.step
        return count

    cdef int fill(self) except -1:
        cdef Py_ssize_t hashed
        self.begin = self.end
        self.end = min(self.begin + BIG_CHUNK, self.expected)
        self.count = self.end - self.begin
        with nogil:
            hashed = self.hash_some(self.count)
        if hashed < self.count:
            _refuse(self.item(hashed), NOT_UTF8, self.begin + hashed)
        return 0

    cdef object item(self, Py_ssize_t i):
        cdef const char* data = <const char*>self.view.buf + (self.begin + i) * self.step
        cdef Py_ssize_t length = self.measure(data)
        if self.is_text:
            return PyUnicode_FromKindAndData(4, data, length)
        return PyBytes_FromStringAndSize(data, length)


# Strings of a fixed number of bytes or of UCS-4 characters, in this machine's byte order.
_FIXED = re.compile(r"[@=|%s]?[0-9]*[sw]" % ("<" if sys.byteorder == "little" else ">"))


cdef _Source _buffer_source(object keys):
    # None where this is no array of strings: it says what it is when it is iterated.
    cdef _BufferSource source = None
    if not PyObject_CheckBuffer(keys):
        return None
    try:
        view = memoryview(keys)
    except (BufferError, TypeError, ValueError):
        return None
    with view:
        if view.ndim != 1 or not view.itemsize or _FIXED.fullmatch(view.format) is None:
            return None
        source = _BufferSource(keys, view.format.endswith("w"))
    return source if source.is_aligned() else None


cdef _Source _source(object keys, object key):
    cdef _Source source = None
    if isinstance(keys, Keys):
        if key is not None:
            raise BadKey("these Keys are hashed already: give key= when you make them")
        return _KeysSource(keys)
    if isinstance(keys, (str, bytes)):
        raise BadKey(
            f"keys must be a collection of keys, not one {type(keys).__name__}: use a list"
        )
    if key is None:
        if isinstance(keys, (list, tuple)):
            return _SequenceSource(keys)
        source = _buffer_source(keys)
        if source is None:
            source = _arrow_source(keys)
        if source is not None:
            return source
    try:
        return _IteratorSource(keys, key)
    except TypeError as error:
        raise BadKey(
            f"keys must be a collection of keys, not {type(keys).__name__!r}"
        ) from error


def hash_all(keys, *, key=None):
    """Return the exclusive or of all keys' top 32 hash bits: the floor under a batch check."""
    cdef _Source source = _source(keys, key)
    cdef uint32_t result = 0
    cdef Py_ssize_t i
    while True:
        source.fill()
        if source.count == 0:
            return result
        for i in range(source.count):
            result ^= source.top[i]
