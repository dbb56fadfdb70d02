# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: initializedcheck=False, embedsignature=True
"""The hot path of ``ring.py`` in C: hashing, slots, the table, and batch checks.

``hashring.ring.reference`` is the same in plain Python: what differs between the two is a bug here.
This module knows what a key, a slot and a member's number are. It knows no weights, no parameters
and no groups; ``ring.py`` turns those into the numbers that this module is given.

How a batch runs: a *source* hashes the next chunk of keys into an array of 32-bit hashes, then a
*sink* tests that chunk. No Python object is made for a key that is not in the result.
"""

cimport cython
from cpython.buffer cimport PyBUF_RECORDS_RO, PyBuffer_Release, PyObject_CheckBuffer
from cpython.buffer cimport PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.mem cimport PyMem_Calloc, PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.pycapsule cimport PyCapsule_GetPointer
from cpython.ref cimport PyObject
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy, memset

import re
import sys
from types import GenericAlias

from hashring.errors import BadKey, BadRing, EmptyRing, UnknownMember

__all__ = ["Keys", "SlotSet", "Table", "hash_all", "hash_key"]

cdef extern from *:
    """
    #if defined(__GNUC__) || defined(__clang__)
    #define HR_PREFETCH(address) __builtin_prefetch(address)
    #define HR_PREFETCH_TO_WRITE(address) __builtin_prefetch(address, 1)
    #define HR_POPCOUNT(word) __builtin_popcountll(word)
    #define HR_TRAILING_ZEROS(word) __builtin_ctzll(word)
    #else
    #define HR_PREFETCH(address) ((void)(address))
    #define HR_PREFETCH_TO_WRITE(address) ((void)(address))
    static int HR_POPCOUNT(unsigned long long word) {
        int count = 0;
        for (; word; word &= word - 1) count++;
        return count;
    }
    static int HR_TRAILING_ZEROS(unsigned long long word) {
        int count = 0;
        for (; !(word & 1); word >>= 1) count++;
        return count;
    }
    #endif

    /* Little-endian loads from any address, on any machine. */
    static CYTHON_INLINE uint64_t hr_load64(const uint8_t *from) {
        uint64_t word;
        memcpy(&word, from, 8);
    #if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        word = __builtin_bswap64(word);
    #endif
        return word;
    }
    static CYTHON_INLINE uint32_t hr_load32(const uint8_t *from) {
        uint32_t word;
        memcpy(&word, from, 4);
    #if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        word = __builtin_bswap32(word);
    #endif
        return word;
    }

    /* Before 3.12 a str made by old extension code can still lack its final form. */
    #if PY_VERSION_HEX < 0x030C0000
    #define HR_READY(text) PyUnicode_READY(text)
    #else
    #define HR_READY(text) 0
    #endif

    /* The Arrow C data and stream interfaces (arrow.apache.org, "C data interface"). */
    #ifndef ARROW_C_DATA_INTERFACE
    #define ARROW_C_DATA_INTERFACE
    struct ArrowSchema {
        const char *format, *name, *metadata;
        int64_t flags, n_children;
        struct ArrowSchema **children, *dictionary;
        void (*release)(struct ArrowSchema *);
        void *private_data;
    };
    struct ArrowArray {
        int64_t length, null_count, offset, n_buffers, n_children;
        const void **buffers;
        struct ArrowArray **children, *dictionary;
        void (*release)(struct ArrowArray *);
        void *private_data;
    };
    #endif
    #ifndef ARROW_C_STREAM_INTERFACE
    #define ARROW_C_STREAM_INTERFACE
    struct ArrowArrayStream {
        int (*get_schema)(struct ArrowArrayStream *, struct ArrowSchema *);
        int (*get_next)(struct ArrowArrayStream *, struct ArrowArray *);
        const char *(*get_last_error)(struct ArrowArrayStream *);
        void (*release)(struct ArrowArrayStream *);
        void *private_data;
    };
    #endif

    static CYTHON_INLINE PyObject **hr_list_items(PyObject *list) {
        return ((PyListObject *)list)->ob_item;
    }
    static CYTHON_INLINE PyObject **hr_tuple_items(PyObject *tuple) {
        return ((PyTupleObject *)tuple)->ob_item;
    }
    """
    void HR_PREFETCH(const void* address) noexcept nogil
    void HR_PREFETCH_TO_WRITE(const void* address) noexcept nogil
    int HR_POPCOUNT(uint64_t word) noexcept nogil
    int HR_TRAILING_ZEROS(uint64_t word) noexcept nogil
    uint64_t hr_load64(const uint8_t* data) noexcept nogil
    uint32_t hr_load32(const uint8_t* data) noexcept nogil
    int HR_READY(PyObject* text) noexcept
    ctypedef struct ArrowSchema "struct ArrowSchema":
        const char* format
        ArrowSchema* dictionary
        void (*release)(ArrowSchema*) noexcept nogil
    ctypedef struct ArrowArray "struct ArrowArray":
        int64_t length
        int64_t null_count
        int64_t offset
        int64_t n_buffers
        const void** buffers
        void (*release)(ArrowArray*) noexcept nogil
    ctypedef struct ArrowArrayStream "struct ArrowArrayStream":
        int (*get_schema)(ArrowArrayStream*, ArrowSchema*) noexcept nogil
        int (*get_next)(ArrowArrayStream*, ArrowArray*) noexcept nogil
        const char* (*get_last_error)(ArrowArrayStream*) noexcept nogil
    PyObject** _list_items "hr_list_items"(object values) noexcept
    PyObject** _tuple_items "hr_tuple_items"(object values) noexcept

cdef extern from "Python.h":
    bint PyUnicode_Check(PyObject* value) noexcept
    bint PyUnicode_IS_ASCII(PyObject* value) noexcept
    int PyUnicode_KIND(PyObject* value) noexcept
    void* PyUnicode_DATA(PyObject* value) noexcept
    Py_ssize_t PyUnicode_GET_LENGTH(PyObject* value) noexcept
    bint PyBytes_Check(PyObject* value) noexcept
    char* PyBytes_AsStringUnchecked "PyBytes_AS_STRING"(PyObject* value) noexcept
    Py_ssize_t PyBytes_SizeUnchecked "PyBytes_GET_SIZE"(PyObject* value) noexcept
    char* PyByteArray_AS_STRING(object value) noexcept
    int PyByteArray_Resize(object value, Py_ssize_t size) except -1
    object PyUnicode_FromKindAndData(int kind, const void* data, Py_ssize_t length)

cdef enum:
    CHUNK = 1024            # keys hashed at a time where Python objects are read
    BIG_CHUNK = 1 << 14     # where none are, so that the GIL can be released for a while
    AHEAD = 12              # keys whose memory is asked for before they are hashed,
    FAR_AHEAD = 32          # and before they are only collected, which is sooner done
    LOCAL = 512             # bytes of UTF-8 that need no allocation

# ---------------------------------------------------------------------------------------------
# Hashing
# ---------------------------------------------------------------------------------------------


cdef inline uint64_t _rotate(uint64_t value, int by) noexcept nogil:
    return (value << by) | (value >> (64 - by))


cdef inline uint64_t _finish(uint64_t value) noexcept nogil:
    value = (value ^ (value >> 33)) * <uint64_t>0xFF51AFD7ED558CCD
    value = (value ^ (value >> 33)) * <uint64_t>0xC4CEB9FE1A85EC53
    return value ^ (value >> 33)


cdef inline uint64_t _load_tail(const uint8_t* data, Py_ssize_t length) noexcept nogil:
    # 1 to 8 bytes as a little-endian number; the loads overlap, and overlapping bytes agree.
    if length >= 8:
        return hr_load64(data)
    if length >= 4:
        return (
            <uint64_t>hr_load32(data)
            | <uint64_t>hr_load32(data + length - 4) << (8 * (length - 4))
        )
    return (
        <uint64_t>data[0]
        | <uint64_t>data[length >> 1] << (8 * (length >> 1))
        | <uint64_t>data[length - 1] << (8 * (length - 1))
    )


cdef uint64_t murmur(const uint8_t* data, Py_ssize_t length, uint32_t seed) noexcept nogil:
    """The low 64 bits of MurmurHash3 x64 128 (Appleby)."""
    cdef uint64_t c1 = <uint64_t>0x87C37B91114253D5, c2 = <uint64_t>0x4CF5AD432745937F
    cdef uint64_t low = seed, high = seed, first, second
    cdef Py_ssize_t left = length
    while left >= 16:
        first = hr_load64(data)
        second = hr_load64(data + 8)
        low ^= _rotate(first * c1, 31) * c2
        low = (_rotate(low, 27) + high) * 5 + 0x52DCE729
        high ^= _rotate(second * c2, 33) * c1
        high = (_rotate(high, 31) + low) * 5 + 0x38495AB5
        data += 16
        left -= 16
    if left > 8:
        second = _load_tail(data + 8, left - 8)
        high ^= _rotate(second * c2, 33) * c1
    if left > 0:
        first = _load_tail(data, left)
        low ^= _rotate(first * c1, 31) * c2
    low ^= <uint64_t>length
    high ^= <uint64_t>length
    low += high
    high += low
    return _finish(low) + _finish(high)


cdef fused _Character:
    uint8_t
    uint16_t
    uint32_t


cdef Py_ssize_t _encode(
    const _Character* text, Py_ssize_t length, uint8_t* out
) noexcept nogil:
    # UTF-8 of a string of 1, 2 or 4 bytes a character; -1 where a surrogate stands alone.
    cdef Py_ssize_t i = 0, j, size = 0
    cdef uint32_t point
    while i < length:
        if i + 8 <= length:
            # Eight characters at a time where all are ASCII: the compiler makes vectors of this.
            point = 0
            for j in range(8):
                point |= text[i + j]
            if point < 0x80:
                for j in range(8):
                    out[size + j] = <uint8_t>text[i + j]
                i += 8
                size += 8
                continue
        point = text[i]
        i += 1
        if point < 0x80:
            out[size] = <uint8_t>point
            size += 1
        elif point < 0x800:
            out[size] = <uint8_t>(0xC0 | point >> 6)
            out[size + 1] = <uint8_t>(0x80 | point & 0x3F)
            size += 2
        elif point < 0x10000:
            if 0xD800 <= point < 0xE000:
                return -1
            out[size] = <uint8_t>(0xE0 | point >> 12)
            out[size + 1] = <uint8_t>(0x80 | point >> 6 & 0x3F)
            out[size + 2] = <uint8_t>(0x80 | point & 0x3F)
            size += 3
        elif point < 0x110000:
            out[size] = <uint8_t>(0xF0 | point >> 18)
            out[size + 1] = <uint8_t>(0x80 | point >> 12 & 0x3F)
            out[size + 2] = <uint8_t>(0x80 | point >> 6 & 0x3F)
            out[size + 3] = <uint8_t>(0x80 | point & 0x3F)
            size += 4
        else:
            return -1
    return size


cdef enum:
    HASHED = 0
    NOT_A_KEY = 1
    NOT_UTF8 = 2
    NO_MEMORY = 3


cdef int _hash_text(
    int kind, const void* text, Py_ssize_t length, uint32_t seed, uint64_t* result
) noexcept nogil:
    # A string that is not ASCII: hashed on its UTF-8 form, which is not kept.
    cdef uint8_t[LOCAL] local
    cdef uint8_t* out = &local[0]
    cdef Py_ssize_t size, most = length * (kind + 1 if kind < 4 else 4)
    local[0] = 0
    if most > LOCAL:
        out = <uint8_t*>malloc(most)
        if out == NULL:
            return NO_MEMORY
    if kind == 1:
        size = _encode[uint8_t](<const uint8_t*>text, length, out)
    elif kind == 2:
        size = _encode[uint16_t](<const uint16_t*>text, length, out)
    else:
        size = _encode[uint32_t](<const uint32_t*>text, length, out)
    if size >= 0:
        result[0] = murmur(out, size, seed)
    if out != &local[0]:
        free(out)
    return HASHED if size >= 0 else NOT_UTF8


cdef inline int _hash_object(PyObject* key, uint32_t seed, uint64_t* result) noexcept:
    # No Python code runs in here, and nothing is allocated that the collector tracks: a list
    # that holds the key cannot change meanwhile.
    if PyUnicode_Check(key):
        if HR_READY(key) != 0:
            return NO_MEMORY
        if PyUnicode_IS_ASCII(key):
            result[0] = murmur(
                <const uint8_t*>PyUnicode_DATA(key), PyUnicode_GET_LENGTH(key), seed
            )
            return HASHED
        return _hash_text(
            PyUnicode_KIND(key), PyUnicode_DATA(key), PyUnicode_GET_LENGTH(key), seed, result
        )
    if PyBytes_Check(key):
        result[0] = murmur(
            <const uint8_t*>PyBytes_AsStringUnchecked(key), PyBytes_SizeUnchecked(key), seed
        )
        return HASHED
    return NOT_A_KEY


cdef int _refuse(object key, int reason, Py_ssize_t index) except -1:
    where = "the key" if index < 0 else f"key {index}"
    if reason == NOT_A_KEY:
        raise BadKey(f"{where} is of type {type(key).__name__!r}: keys are str or bytes")
    if reason == NOT_UTF8:
        raise BadKey(f"{where} has a lone surrogate and no UTF-8 form: {ascii(key)[:80]}")
    raise MemoryError


cdef inline uint64_t _hash_one(object key, uint32_t seed=0) except? 0:
    cdef uint64_t result = 0
    cdef int reason = _hash_object(<PyObject*>key, seed, &result)
    if reason != HASHED:
        _refuse(key, reason, -1)
    return result


cdef inline Py_ssize_t _slot(uint32_t top, int bits) noexcept nogil:
    # The top bits of the hash; in 64 bits, because C leaves a shift of 32 by 32 undefined.
    return <Py_ssize_t>(<uint64_t>top >> (32 - bits))


def hash_key(key, uint32_t seed=0):
    """Return a key's 64-bit hash: the low half of MurmurHash3 x64 128 of its UTF-8 bytes."""
    return _hash_one(key, seed)


# ---------------------------------------------------------------------------------------------
# Sources: the next chunk of keys, hashed
# ---------------------------------------------------------------------------------------------


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


cdef enum ArrowLayout:
    OFFSETS_32
    OFFSETS_64
    VIEWS


@cython.final
cdef class _ArrowSource(_Source):
    """Arrow arrays of strings or of binary, by the C data or stream interface: no copy, no pyarrow.

    One array is read at a time; with a stream, the next is fetched when it is done.
    """

    cdef object schema_capsule, capsule     # they own what the pointers below lead to
    cdef ArrowArrayStream* stream
    cdef ArrowSchema stream_schema
    cdef ArrowArray stream_array
    cdef const ArrowArray* array
    cdef ArrowLayout layout
    cdef bint is_text
    cdef Py_ssize_t begin, end, done        # in the array; and keys in the arrays before it

    def __init__(self, schema_capsule, capsule):
        self.schema_capsule, self.capsule = schema_capsule, capsule
        self.reserve(BIG_CHUNK)
        if schema_capsule is None:
            self.stream = <ArrowArrayStream*>PyCapsule_GetPointer(capsule, "arrow_array_stream")
            self.check(self.stream.get_schema(self.stream, &self.stream_schema))
            self.understand(&self.stream_schema)
        else:
            self.understand(<ArrowSchema*>PyCapsule_GetPointer(schema_capsule, "arrow_schema"))
            self.array = <const ArrowArray*>PyCapsule_GetPointer(capsule, "arrow_array")
            self.expected = self.array.length

    def __dealloc__(self):
        if self.stream_array.release != NULL:
            self.stream_array.release(&self.stream_array)
        if self.stream_schema.release != NULL:
            self.stream_schema.release(&self.stream_schema)

    cdef int check(self, int status) except -1:
        cdef const char* said
        if status:
            said = self.stream.get_last_error(self.stream)
            reason = said.decode("utf-8", "replace") if said != NULL else f"error {status}"
            raise BadKey(f"the Arrow stream of keys failed: {reason}")
        return 0

    cdef int understand(self, const ArrowSchema* schema) except -1:
        name = schema.format.decode("utf-8", "replace")
        layouts = {
            "u": OFFSETS_32, "z": OFFSETS_32, "U": OFFSETS_64, "Z": OFFSETS_64,
            "vu": VIEWS, "vz": VIEWS,
        }
        if schema.dictionary != NULL or name not in layouts:
            kind = "a dictionary" if schema.dictionary != NULL else f"of format {name!r}"
            raise BadKey(
                f"the Arrow array is {kind}: keys are of type string, large_string, string_view, "
                "binary, large_binary or binary_view; cast it"
            )
        self.layout = layouts[name]
        self.is_text = name.lower().endswith("u")
        return 0

    cdef bint locate(
        self, Py_ssize_t i, const uint8_t** data, Py_ssize_t* length
    ) noexcept nogil:
        # Where the array's i-th key lies; False where it is null or malformed.
        cdef const ArrowArray* array = self.array
        cdef int64_t at = array.offset + i, start, stop
        cdef const uint8_t* valid = <const uint8_t*>array.buffers[0]
        cdef const int32_t* view
        if valid != NULL and not valid[at >> 3] >> (at & 7) & 1:
            return False
        if self.layout == VIEWS:
            view = <const int32_t*>array.buffers[1] + 4 * at
            length[0] = view[0]
            if view[0] <= 12:
                data[0] = <const uint8_t*>(view + 1)
            elif 0 <= view[2] < array.n_buffers - 3 and view[3] >= 0:
                data[0] = <const uint8_t*>array.buffers[2 + view[2]] + view[3]
            else:
                return False
            return view[0] >= 0
        if self.layout == OFFSETS_32:
            start = (<const int32_t*>array.buffers[1])[at]
            stop = (<const int32_t*>array.buffers[1])[at + 1]
        else:
            start = (<const int64_t*>array.buffers[1])[at]
            stop = (<const int64_t*>array.buffers[1])[at + 1]
        data[0] = <const uint8_t*>array.buffers[2] + start
        length[0] = stop - start
        return 0 <= start <= stop

    cdef Py_ssize_t hash_some(self, Py_ssize_t count) noexcept nogil:
        cdef const uint8_t* data = NULL
        cdef Py_ssize_t i, length = 0
        for i in range(count):
            if not self.locate(self.begin + i, &data, &length):
                return i
            self.own[i] = <uint32_t>(murmur(data, length, 0) >> 32)
        return count

    cdef int advance(self) except -1:
        # To the stream's next array that is not empty; `array` becomes NULL at its end.
        cdef int status
        while self.stream != NULL and (self.array == NULL or self.end == self.array.length):
            self.done += self.end
            self.begin = self.end = 0
            self.array = NULL
            if self.stream_array.release != NULL:
                self.stream_array.release(&self.stream_array)
                self.stream_array.release = NULL
            with nogil:
                status = self.stream.get_next(self.stream, &self.stream_array)
            self.check(status)
            if self.stream_array.release == NULL:
                self.stream = NULL
                return 0
            self.array = &self.stream_array
        return 0

    cdef int fill(self) except -1:
        cdef Py_ssize_t hashed
        self.count = 0
        self.advance()
        if self.array == NULL:
            return 0
        self.begin = self.end
        self.end = min(self.begin + BIG_CHUNK, <Py_ssize_t>self.array.length)
        self.count = self.end - self.begin
        with nogil:
            hashed = self.hash_some(self.count)
        if hashed < self.count:
            _refuse(None, NOT_A_KEY, self.done + self.begin + hashed)
        return 0

    cdef object item(self, Py_ssize_t i):
        cdef const uint8_t* data = NULL
        cdef Py_ssize_t length = 0
        self.locate(self.begin + i, &data, &length)
        if not self.is_text:
            return PyBytes_FromStringAndSize(<const char*>data, length)
        try:
            return PyUnicode_DecodeUTF8(<const char*>data, length, NULL)
        except UnicodeDecodeError as error:
            raise BadKey(f"key {self.done + self.begin + i} is no UTF-8: {error}") from error


cdef _Source _arrow_source(object keys):
    # None where the object exports no Arrow data; pandas has the method without pyarrow, too.
    try:
        if hasattr(keys, "__arrow_c_array__"):
            return _ArrowSource(*keys.__arrow_c_array__())
        if hasattr(keys, "__arrow_c_stream__"):
            return _ArrowSource(None, keys.__arrow_c_stream__())
    except ImportError:
        pass
    return None


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


# ---------------------------------------------------------------------------------------------
# Keys
# ---------------------------------------------------------------------------------------------


cdef tuple _hash_into_arrays(object keys, object key):
    # (items, their 32-bit hashes): an item is what the caller gave, also where key= is used.
    cdef _Source source
    cdef list items = []
    cdef list chunks = []
    cdef PyObject** objects
    cdef Py_ssize_t i
    if isinstance(keys, Keys) and key is None:
        return (<Keys>keys).items, (<Keys>keys).hashes
    if key is None and isinstance(keys, list):
        keys = tuple(keys)  # so that the items are those that were hashed
    source = _source(keys, key)
    while True:
        source.fill()
        if source.count == 0:
            break
        chunks.append(
            PyBytes_FromStringAndSize(<const char*>source.top, source.count * sizeof(uint32_t))
        )
        if type(keys) is not tuple or key is not None:
            objects = source.objects()
            for i in range(source.count):
                items.append(source.item(i) if objects == NULL else <object>objects[i])
    if type(keys) is tuple and key is None:
        return keys, b"".join(chunks)
    return tuple(items), b"".join(chunks)


cdef object _canonical(object key):
    return (<str>key).encode() if isinstance(key, str) else bytes(key)


cdef class Keys:
    """Keys that are hashed once: pass it wherever ``keys`` stands. Keeps order and repeats.

    Independent of any ring. Costs 4 bytes a key beside the reference to the key. It can be
    changed (:meth:`add`, :meth:`remove`); a batch that runs meanwhile in another thread sees the
    keys of before. Each change copies two arrays: add many keys in one call rather than one each.

    Args:
        keys: any iterable of keys, or of objects if ``key`` is given.
        key: a callable that gives an object's key.

    Raises:
        BadKey: one is neither ``str`` nor ``bytes``, or has a lone surrogate.

    Example:
        >>> from hashring.ring import HashRing, Keys
        >>> keys = Keys(["disk-1", "disk-2"])
        >>> keys.add(["disk-3"])
        >>> keys.remove(["disk-1"])
        1
        >>> HashRing(["a"]).owned("a", keys)
        ['disk-2', 'disk-3']
    """

    __class_getitem__ = classmethod(GenericAlias)

    def __cinit__(self):
        self.items = ()
        self.hashes = b""
        self.key = None

    def __init__(self, keys=(), *, key=None):
        items, hashes = _hash_into_arrays(keys, key)
        if key is None and isinstance(keys, Keys):
            key = (<Keys>keys).key
        self.items, self.hashes, self.key = items, hashes, key

    def __len__(self):
        return PyTuple_GET_SIZE(self.items)

    def __iter__(self):
        return iter(self.items)

    def __getitem__(self, index):
        return self.items[index]

    def __repr__(self):
        return f"<Keys: {len(self.items)}>"

    def __reduce__(self):
        return _restore_keys, (self.items, self.key)

    def add(self, keys):
        """Append keys (or objects, if these Keys have a ``key=``), in order.

        Raises:
            BadKey: as the constructor; then nothing has been added.
        """
        items, hashes = _hash_into_arrays(keys, None if isinstance(keys, Keys) else self.key)
        # Read again after the callbacks: one of them may have changed these Keys.
        self.items, self.hashes = self.items + tuple(items), self.hashes + hashes

    def remove(self, keys):
        """Remove every occurrence of these keys (or of objects with the same key).

        Returns:
            The number removed. Keys that are not there are ignored.

        Raises:
            BadKey: as the constructor; then nothing has been removed.
        """
        cdef bytes hashes, gone_hashes
        cdef tuple items, gone
        cdef Py_ssize_t i, slot
        cdef const uint32_t* top
        cdef SlotSet sieve = SlotSet(1 << 16)
        cdef list left, removed
        cdef object key = self.key
        other = (<Keys>keys).key if isinstance(keys, Keys) else key
        gone, gone_hashes = _hash_into_arrays(keys, None if isinstance(keys, Keys) else key)
        canonical = {_canonical(k if other is None else other(k)) for k in gone}
        top = <const uint32_t*>PyBytes_AS_STRING(gone_hashes)
        for i in range(PyTuple_GET_SIZE(gone)):
            slot = top[i] >> 16
            sieve.word[slot >> 6] |= <uint64_t>1 << (slot & 63)
        while True:
            items, hashes = self.items, self.hashes
            top = <const uint32_t*>PyBytes_AS_STRING(hashes)
            left, removed = [], []
            for i in range(PyTuple_GET_SIZE(items)):
                item = <object>PyTuple_GET_ITEM(items, i)
                slot = top[i] >> 16
                if (
                    sieve.word[slot >> 6] >> (slot & 63) & 1
                    and _canonical(item if key is None else key(item)) in canonical
                ):
                    removed.append(i)
                else:
                    left.append(item)
            remaining, remaining_hashes = tuple(left), _without(hashes, removed)
            if self.items is items:  # else a key function or another thread came in between
                self.items, self.hashes = remaining, remaining_hashes
                return PyList_GET_SIZE(removed)


cdef bytes _without(bytes hashes, list indices):
    # The array of 32-bit hashes less those at these ascending indices.
    cdef Py_ssize_t size = len(hashes) // sizeof(uint32_t), begin = 0, at = 0, index
    cdef bytes result = PyBytes_FromStringAndSize(
        NULL, (size - PyList_GET_SIZE(indices)) * sizeof(uint32_t)
    )
    cdef const uint32_t* top = <const uint32_t*>PyBytes_AS_STRING(hashes)
    cdef uint32_t* out = <uint32_t*>PyBytes_AS_STRING(result)
    for index in indices:
        memcpy(out + at, top + begin, (index - begin) * sizeof(uint32_t))
        at += index - begin
        begin = index + 1
    memcpy(out + at, top + begin, (size - begin) * sizeof(uint32_t))
    return result


def _restore_keys(items, key):
    return Keys(items, key=key)


# ---------------------------------------------------------------------------------------------
# SlotSet
# ---------------------------------------------------------------------------------------------

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
        cdef SlotSet left, right, result
        cdef Py_ssize_t i
        if not isinstance(self, SlotSet) or not isinstance(other, SlotSet):
            return NotImplemented
        left, right = <SlotSet>self, <SlotSet>other
        result = _sibling(left, right)
        for i in range(result.words):
            result.word[i] = left.word[i] & right.word[i]
        return result

    def __or__(self, other):
        cdef SlotSet left, right, result
        cdef Py_ssize_t i
        if not isinstance(self, SlotSet) or not isinstance(other, SlotSet):
            return NotImplemented
        left, right = <SlotSet>self, <SlotSet>other
        result = _sibling(left, right)
        for i in range(result.words):
            result.word[i] = left.word[i] | right.word[i]
        return result

    def __sub__(self, other):
        cdef SlotSet left, right, result
        cdef Py_ssize_t i
        if not isinstance(self, SlotSet) or not isinstance(other, SlotSet):
            return NotImplemented
        left, right = <SlotSet>self, <SlotSet>other
        result = _sibling(left, right)
        for i in range(result.words):
            result.word[i] = left.word[i] & ~right.word[i]
        return result

    def __xor__(self, other):
        cdef SlotSet left, right, result
        cdef Py_ssize_t i
        if not isinstance(self, SlotSet) or not isinstance(other, SlotSet):
            return NotImplemented
        left, right = <SlotSet>self, <SlotSet>other
        result = _sibling(left, right)
        for i in range(result.words):
            result.word[i] = left.word[i] ^ right.word[i]
        return result

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


cdef SlotSet _sibling(SlotSet left, SlotSet right):
    cdef SlotSet result
    _check_universe(left, right)
    result = SlotSet.__new__(SlotSet, left.slots)
    result.count = -1
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


# ---------------------------------------------------------------------------------------------
# Table
# ---------------------------------------------------------------------------------------------


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
