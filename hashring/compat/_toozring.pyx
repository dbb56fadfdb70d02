# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""Points on tooz's circle at C speed, for MD5 alone.

Keys are hashed several at a time (`_md5_lanes.h`), and a table on the top bits of the hash leads
to the first point worth comparing, so that a search costs about one comparison. All 128 bits are
compared: the position is exactly that of a bisection. The twin of `_toozring_reference.py`.
Knows points and positions; which node a point belongs to is `hashring.compat.tooz`'s matter.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_CheckSignals
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from cpython.ref cimport Py_INCREF, Py_XDECREF, PyObject
from cpython.unicode cimport PyUnicode_AsUTF8String
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from hashring.compat._toozring_reference import key_bytes

cdef extern from "Python.h":
    bint PyUnicode_CheckExact(PyObject *)
    bint PyUnicode_IS_COMPACT_ASCII(PyObject *)
    void *PyUnicode_DATA(PyObject *)
    Py_ssize_t PyUnicode_GET_LENGTH(PyObject *)
    Py_ssize_t PySequence_Fast_GET_SIZE(object)
    PyObject *PySequence_Fast_GET_ITEM(object, Py_ssize_t)
    PyObject **PySequence_Fast_ITEMS(object)

cdef extern from "_md5_lanes.h":
    ctypedef struct lanes_message:
        const uint8_t *data
        size_t length
    ctypedef struct lanes_digest:
        uint64_t high
        uint64_t low
    ctypedef void (*lanes_function)(const lanes_message *, lanes_digest *, size_t) noexcept
    ctypedef struct lanes_variant:
        const char *name
        lanes_function hash
    int lanes_choose(lanes_variant *) noexcept
    void lanes_hash_one(const lanes_message *, lanes_digest *) noexcept
    uint64_t lanes_number(const uint8_t *) noexcept
    void lanes_prefetch(const void *) noexcept

cdef enum:
    CHUNK = 64          # keys hashed at once: their pointers and digests stay in the first cache
    BREATHER = 16384    # keys after which other threads and signals get their turn

cdef lanes_variant _variants[3]
cdef int _variant_count = lanes_choose(_variants)


def variants():
    """Return the names of the MD5 variants this processor can run, fastest first."""
    return tuple(_variants[i].name.decode() for i in range(_variant_count))


cdef lanes_function _function(variant) except NULL:
    if variant is None:
        return _variants[0].hash
    for i in range(_variant_count):
        if _variants[i].name.decode() == variant:
            return _variants[i].hash
    raise ValueError(f"no MD5 variant {variant!r} on this processor: it has {variants()}")


cdef struct Chunk:
    Py_ssize_t taken
    PyObject *keys[CHUNK]       # held while their bytes are read
    PyObject *encoded[CHUNK]    # the UTF-8 form of those that are not ASCII
    lanes_message messages[CHUNK]
    lanes_digest digests[CHUNK]


cdef void _release(Chunk *chunk) noexcept:
    cdef Py_ssize_t i
    for i in range(chunk.taken):
        Py_XDECREF(chunk.encoded[i])
        Py_XDECREF(chunk.keys[i])
    chunk.taken = 0


cdef int _message_of(
    PyObject *key, object form, PyObject **encoded, lanes_message *message
) except -1:
    cdef bytes data
    if PyUnicode_CheckExact(key):
        if PyUnicode_IS_COMPACT_ASCII(key):
            message.data = <const uint8_t *>PyUnicode_DATA(key)
            message.length = PyUnicode_GET_LENGTH(key)
            return 0
        try:
            # Not PyUnicode_AsUTF8: that one would leave the copy in the caller's string for good.
            data = PyUnicode_AsUTF8String(<object>key)
        except UnicodeEncodeError:
            data = key_bytes(<object>key)   # raises the error that says what to do
    elif form is key_bytes and PyBytes_CheckExact(<object>key):
        data = <bytes>key
    else:
        data = form(<object>key)
        if data is None:
            raise TypeError("the form of a key must be bytes, not None")
    Py_INCREF(data)
    encoded[0] = <PyObject *>data
    message.data = <const uint8_t *>PyBytes_AS_STRING(data)
    message.length = PyBytes_GET_SIZE(data)
    return 0


cdef Py_ssize_t _load(
    object keys, object form, Py_ssize_t start, Py_ssize_t total, Chunk *chunk
) except -1:
    """Take references to the next keys and point the messages at their bytes."""
    cdef Py_ssize_t i, count = min(total - start, <Py_ssize_t>CHUNK)
    cdef Py_ssize_t ahead = min(total - start, <Py_ssize_t>(2 * CHUNK))
    cdef PyObject *key
    cdef PyObject **items
    if PySequence_Fast_GET_SIZE(keys) != total:
        raise RuntimeError("the list of keys changed its length while it was read")
    items = PySequence_Fast_ITEMS(keys) + start
    for i in range(count):
        key = items[i]
        Py_INCREF(<object>key)
        chunk.keys[i] = key
        chunk.encoded[i] = NULL
        chunk.taken = i + 1
    for i in range(count, ahead):
        # A str of 36 characters lies across two cache lines; both are fetched for the next round.
        lanes_prefetch(items[i])
        lanes_prefetch(<const char *>items[i] + 64)
    for i in range(count):
        _message_of(chunk.keys[i], form, &chunk.encoded[i], &chunk.messages[i])
    return count


def md5_many(keys, variant=None):
    """Return the MD5 digests of keys, hashed side by side by one variant."""
    cdef lanes_function function = _function(variant)
    cdef Chunk chunk
    cdef Py_ssize_t i, count, start = 0, total
    if not isinstance(keys, (list, tuple)):
        keys = list(keys)
    total = len(keys)
    found = []
    chunk.taken = 0
    try:
        while start < total:
            count = _load(keys, key_bytes, start, total, &chunk)
            function(chunk.messages, chunk.digests, count)
            for i in range(count):
                number = int(chunk.digests[i].high) << 64 | int(chunk.digests[i].low)
                found.append(number.to_bytes(16, "big"))
            _release(&chunk)
            start += count
    finally:
        _release(&chunk)
    return found


cdef class PointIndex:
    """Sorted points, searched as tooz does: the first point beyond a key's hash, else the first.

    Args:
        points: MD5 digests (16 bytes) in ascending order, each one once.
        variant: one of `variants()`; the fastest where none is named.
    """

    cdef uint64_t *high
    cdef uint64_t *low
    cdef uint32_t *first        # by the top bits of a hash: the first point not below them
    cdef int shift
    cdef Py_ssize_t count
    cdef lanes_function function

    def __init__(self, points, variant=None):
        cdef Py_ssize_t i, bucket = 0, buckets
        cdef int bits = 8
        cdef bytes point
        if self.first != NULL:
            raise RuntimeError("a PointIndex cannot be initialised twice")
        self.function = _function(variant)
        cdef list given = list(points)
        cdef Py_ssize_t total = len(given)
        if total >= 1 << 30:
            raise ValueError(f"{total} points are more than the index can hold")
        while <Py_ssize_t>1 << bits < 2 * total:
            bits += 1
        buckets = <Py_ssize_t>1 << bits
        self.shift = 64 - bits
        self.high = <uint64_t *>PyMem_Calloc(total + 1, sizeof(uint64_t))
        self.low = <uint64_t *>PyMem_Calloc(total + 1, sizeof(uint64_t))
        self.first = <uint32_t *>PyMem_Calloc(buckets, sizeof(uint32_t))
        if self.high == NULL or self.low == NULL or self.first == NULL:
            raise MemoryError
        for i in range(total):
            point = given[i]
            if len(point) != 16:
                raise ValueError(f"a point is an MD5 digest of 16 bytes, not {point!r}")
            self.high[i] = lanes_number(<const uint8_t *>PyBytes_AS_STRING(point))
            self.low[i] = lanes_number(<const uint8_t *>PyBytes_AS_STRING(point) + 8)
            if i and (self.high[i] < self.high[i - 1] or (
                self.high[i] == self.high[i - 1] and self.low[i] <= self.low[i - 1]
            )):
                raise ValueError("points must ascend, each one once")
            while bucket <= <Py_ssize_t>(self.high[i] >> self.shift):
                self.first[bucket] = i
                bucket += 1
        self.count = total
        while bucket < buckets:
            self.first[bucket] = self.count
            bucket += 1

    def __dealloc__(self):
        PyMem_Free(self.high)
        PyMem_Free(self.low)
        PyMem_Free(self.first)

    def __len__(self):
        return self.count

    def __sizeof__(self):
        buckets = 0 if self.first == NULL else 1 << (64 - self.shift)
        return object.__sizeof__(self) + 16 * (self.count + 1) + 4 * buckets

    cdef inline Py_ssize_t _find(self, uint64_t high, uint64_t low) noexcept:
        cdef Py_ssize_t i = self.first[high >> self.shift]
        while i < self.count and (
            self.high[i] < high or (self.high[i] == high and self.low[i] <= low)
        ):
            i += 1
        return i if i < self.count else 0

    def position(self, data):
        """Return the position of the point that owns one key; 0 where there are no points."""
        cdef lanes_message message
        cdef lanes_digest digest
        cdef bytes form = data if PyBytes_CheckExact(data) else bytes(memoryview(data))
        message.data = <const uint8_t *>PyBytes_AS_STRING(form)
        message.length = PyBytes_GET_SIZE(form)
        lanes_hash_one(&message, &digest)
        return self._find(digest.high, digest.low)

    cdef int _each(self, object keys, object form, const uint8_t *flags, uint8_t *mask, list owned,
                   object piles) except -1:
        cdef Chunk chunk
        cdef Py_ssize_t i, position, count, start = 0, total = PySequence_Fast_GET_SIZE(keys)
        cdef bint wide = self.count > 4096
        chunk.taken = 0
        try:
            while start < total:
                count = _load(keys, form, start, total, &chunk)
                self.function(chunk.messages, chunk.digests, count)
                if wide:
                    # Beyond the second cache: let the table's lines come in side by side.
                    for i in range(count):
                        lanes_prefetch(&self.first[chunk.digests[i].high >> self.shift])
                    for i in range(count):
                        lanes_prefetch(
                            &self.high[self.first[chunk.digests[i].high >> self.shift]]
                        )
                for i in range(count):
                    position = self._find(chunk.digests[i].high, chunk.digests[i].low)
                    if piles is not None:
                        (<list>piles[position]).append(<object>chunk.keys[i])
                    elif mask != NULL:
                        mask[start + i] = flags[position]
                    elif flags[position]:
                        owned.append(<object>chunk.keys[i])
                _release(&chunk)
                start += count
                if start % BREATHER == 0:
                    PyErr_CheckSignals()
                    with nogil:
                        pass
        finally:
            _release(&chunk)
        return 0

    def _check_length(self, what, length):
        if length != self.count:
            raise ValueError(f"{length} {what} for {self.count} points")

    def mask(self, keys, flags, form=key_bytes):
        """Return for each key the flag (0 or 1) of its position.

        Args:
            keys: `str`, or what `form` takes.
            flags: one byte a point.
            form: gives the bytes of a key that is not exactly a `str`.

        Raises:
            BadKey: a key is neither `str` nor bytes-like, or has no UTF-8 form.
        """
        cdef bytes held = bytes(flags)
        cdef bytearray mask
        self._check_length("flags", len(held))
        if not isinstance(keys, (list, tuple)):
            keys = list(keys)
        mask = bytearray(len(keys))
        # Without points every hash finds position 0, where `held` has its closing zero byte.
        self._each(keys, form, <const uint8_t *>PyBytes_AS_STRING(held),
                   <uint8_t *><char *>mask if len(keys) else NULL, None, None)
        return mask

    def owned(self, keys, flags, form=key_bytes):
        """Return, in order, the keys whose position has a flag that is not 0."""
        cdef bytes held = bytes(flags)
        cdef list owned = []
        self._check_length("flags", len(held))
        if not isinstance(keys, (list, tuple)):
            keys = list(keys)
        self._each(keys, form, <const uint8_t *>PyBytes_AS_STRING(held), NULL, owned, None)
        return owned

    def deal(self, keys, piles):
        """Append each key to the pile at its position.

        Args:
            keys: `str` or bytes.
            piles: one list a point, at least one; points may share a list.
        """
        held = list(piles)
        self._check_length("piles", len(held))
        for pile in held:
            if not isinstance(pile, list):
                raise TypeError(f"a pile must be a list, not {type(pile).__name__}")
        if not held:
            raise ValueError("there are no points, so no pile can take a key")
        if not isinstance(keys, (list, tuple)):
            keys = list(keys)
        self._each(keys, key_bytes, NULL, NULL, None, held)
