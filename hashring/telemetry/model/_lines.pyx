# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Samples' ids and JSON lines, many at once. ``lines.py`` is the same in plain Python."""

import json

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.ref cimport Py_XDECREF, PyObject
from libc.math cimport rint
from libc.stddef cimport ptrdiff_t
from libc.string cimport memcpy

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL
    Py_ssize_t PyUnicode_GET_LENGTH(object text)
    bint PyUnicode_IS_COMPACT_ASCII(object text)
    void *PyUnicode_DATA(object text)
    object PyUnicode_DecodeASCII(const char *data, Py_ssize_t size, const char *errors)
    long long PyLong_AsLongLongAndOverflow(object number, int *overflow) except? -1
    PyObject *_new_bytes "PyBytes_FromStringAndSize"(const char *data, Py_ssize_t size) except NULL
    char *_start_of "PyBytes_AS_STRING"(PyObject *data)
    int _PyBytes_Resize(PyObject **data, Py_ssize_t size) except -1

cdef extern from "_sha1.h":
    ctypedef void (*sha1_block_function)(unsigned int *state, const unsigned char *data) noexcept
    ctypedef struct sha1_beginning:
        sha1_block_function block_function
        int is_set
    sha1_block_function sha1_best_block()
    void sha1_block_portable(unsigned int *state, const unsigned char *data) noexcept
    void sha1_digest(
        unsigned char *data, size_t size, sha1_beginning *known, unsigned char *digest
    )

cdef extern from "_escape.h":
    ptrdiff_t escape_ascii(char *out, const unsigned char *text, size_t size)

cdef object _text = json.encoder.encode_basestring_ascii
cdef object _dumps = json.dumps
cdef sha1_block_function _block = sha1_best_block()

cdef char _HEX[512]  # two digits for each byte
for _one in range(256):
    _HEX[2 * _one] = ord("0123456789abcdef"[_one >> 4])
    _HEX[2 * _one + 1] = ord("0123456789abcdef"[_one & 15])

cdef double _POWERS[7]
for _one in range(7):
    _POWERS[_one] = 10.0 ** _one


def use_processor(bint wanted=True):
    """Use the processor's instructions for SHA-1, or not; return whether they are used.

    For tests: the ids are the same.
    """
    global _block
    _block = sha1_best_block() if wanted else sha1_block_portable
    return _block != sha1_block_portable


cdef class _Buffer:
    """Bytes that grow, and become an object without a copy."""

    cdef PyObject *whole
    cdef char *data
    cdef Py_ssize_t size, room

    def __cinit__(self, Py_ssize_t room):
        self.whole = _new_bytes(NULL, room)
        self.data = _start_of(self.whole)
        self.room = room

    def __dealloc__(self):
        Py_XDECREF(self.whole)

    cdef int need(self, Py_ssize_t more) except -1:
        if self.size + more > self.room:
            self.resize(max(self.size + more, self.room * 2))
        return 0

    cdef int resize(self, Py_ssize_t room) except -1:
        _PyBytes_Resize(&self.whole, room)
        self.data = _start_of(self.whole)
        self.room = room
        return 0

    cdef bytes taken(self):
        """Return what was put; nothing more may be put."""
        if self.size != self.room:
            self.resize(self.size)
        return <bytes> self.whole

    cdef inline int put(self, const char *data, Py_ssize_t size) except -1:
        self.need(size)
        memcpy(self.data + self.size, data, size)
        self.size += size
        return 0

    cdef inline int put_bytes(self, bytes data) except -1:
        return self.put(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))

    cdef inline int put_str(self, str text) except -1:
        cdef Py_ssize_t size
        cdef const char *data
        if PyUnicode_IS_COMPACT_ASCII(text):
            return self.put(<const char *> PyUnicode_DATA(text), PyUnicode_GET_LENGTH(text))
        data = PyUnicode_AsUTF8AndSize(text, &size)
        return self.put(data, size)

    cdef int put_number(self, unsigned long long number) except -1:
        return self.put_decimal(number, 0)

    cdef int put_volume(self, object volume) except -1:
        """Put a number as JSON: as json.dumps writes it, and most often without asking Python."""
        cdef double number, scaled
        cdef long long whole
        cdef int decimals, overflow
        if type(volume) is int:
            whole = PyLong_AsLongLongAndOverflow(volume, &overflow)
            if overflow:
                return self.put_str(repr(volume))
            if whole < 0:
                self.put(b"-", 1)
                # Of the lowest number too, which has no positive one.
                return self.put_decimal(-<unsigned long long> whole, 0)
            return self.put_decimal(<unsigned long long> whole, 0)
        if type(volume) is not float:
            return self.put_str(_dumps(volume))
        number = volume
        if number - number != 0.0:
            return self.put_str(_dumps(volume))
        # A decimal of 15 digits that reads as the number is the shortest one that does, if it
        # has as few decimals as can be.
        if 0.001 <= number < 1e9:
            for decimals in range(1, 7):
                scaled = rint(number * _POWERS[decimals])
                if scaled / _POWERS[decimals] == number:
                    return self.put_decimal(<unsigned long long> scaled, decimals)
        return self.put_str(repr(volume))

    cdef int put_decimal(self, unsigned long long number, int decimals) except -1:
        """Put a number of which so many digits stand behind the point."""
        cdef char digits[24]
        cdef int at = 24
        if decimals:
            while decimals:
                at -= 1
                digits[at] = 48 + number % 10
                number //= 10
                decimals -= 1
            at -= 1
            digits[at] = 46
        while True:
            at -= 1
            digits[at] = 48 + number % 10
            number //= 10
            if not number:
                break
        return self.put(digits + at, 24 - at)

    cdef int put_json(self, str text) except -1:
        """Put a text as JSON, with its quotes."""
        cdef Py_ssize_t size
        cdef ptrdiff_t written
        if PyUnicode_IS_COMPACT_ASCII(text):
            size = PyUnicode_GET_LENGTH(text)
            self.need(2 * size + 2)
            written = escape_ascii(
                self.data + self.size + 1, <const unsigned char *> PyUnicode_DATA(text), size
            )
            if written >= 0:
                self.data[self.size] = 34
                self.data[self.size + written + 1] = 34
                self.size += written + 2
                return 0
        return self.put_str(_text(text))


cdef class _Ids:
    """Makes the ids of one window's samples."""

    cdef list heads
    cdef bytes end
    cdef _Buffer name
    cdef sha1_beginning known

    def __cinit__(self, bytes namespace, meters, str window):
        self.heads = [namespace + meter.encode() for meter in meters]
        self.end = window.encode()
        self.name = _Buffer(512)
        self.known.block_function = _block
        self.known.is_set = 0

    cdef int put(self, char *shown, unsigned int meter, str resource_id) except -1:
        """Write an id's 36 characters."""
        cdef _Buffer name = self.name
        cdef unsigned char digest[20]
        cdef int at
        name.size = 0
        name.put_bytes(self.heads[meter])
        name.put_number(PyUnicode_GET_LENGTH(resource_id))
        name.put(b":", 1)
        name.put_str(resource_id)
        name.put_bytes(self.end)
        name.need(72)
        sha1_digest(<unsigned char *> name.data, name.size, &self.known, digest)
        digest[6] = (digest[6] & 0x0F) | 0x50
        digest[8] = (digest[8] & 0x3F) | 0x80
        for at in range(16):
            if at == 4 or at == 6 or at == 8 or at == 10:
                shown[0] = 45
                shown += 1
            memcpy(shown, _HEX + 2 * digest[at], 2)
            shown += 2
        return 0


def ids(
    bytes namespace, meters, str window, meter_of, str resource_id, list resource_ids
):
    """See ``lines.ids``."""
    cdef const unsigned int[::1] meter_numbers = meter_of
    cdef _Ids make = _Ids(namespace, meters, window)
    cdef char shown[36]
    cdef Py_ssize_t row, count = len(resource_ids)
    cdef unsigned int meter, most = len(make.heads)
    cdef str own
    cdef list found = []
    if meter_numbers.shape[0] != count:
        raise ValueError("columns differ in length")
    for row in range(count):
        meter = meter_numbers[row]
        if meter >= most:
            raise IndexError(f"there is no meter {meter}")
        own = resource_ids[row]
        make.put(shown, meter, resource_id if own is None else own)
        found.append(PyUnicode_DecodeASCII(shown, 36, NULL))
    return found


def rendered(
    bytes namespace,
    meters,
    str window,
    meter_of,
    str resource_id,
    list resource_ids,
    fronts,
    volumes,
    str common,
    about,
    ends,
):
    """See ``lines.rendered``."""
    cdef const unsigned int[::1] meter_numbers = meter_of
    cdef _Ids make = _Ids(namespace, meters, window)
    cdef list before = [front.encode() for front in fronts]
    cdef list after = [end.encode() for end in ends]
    cdef list numbers = list(volumes)
    cdef list metadata = list(about[0]), projects = list(about[1]), users = list(about[2])
    cdef bytes middle = common.encode()
    cdef Py_ssize_t row, count = len(resource_ids)
    cdef _Buffer out = _Buffer(512 * count + 64)
    cdef unsigned int meter, most = len(make.heads)
    cdef str own
    if not meter_numbers.shape[0] == len(numbers) == count:
        raise ValueError("columns differ in length")
    if not most == len(before) == len(after):
        raise ValueError("columns of meters differ in length")
    for column in (metadata, projects, users):
        if column and len(column) != count:
            raise ValueError("columns differ in length")
    for row in range(count):
        meter = meter_numbers[row]
        if meter >= most:
            raise IndexError(f"there is no meter {meter}")
        own = resource_ids[row]
        if own is None:
            own = resource_id
        out.put(b'{"id":"', 7)
        out.need(36)
        make.put(out.data + out.size, meter, own)
        out.size += 36
        out.put(b'"', 1)
        out.put_bytes(before[meter])
        out.put_volume(numbers[row])
        out.put(b',"resource_id":', 15)
        out.put_json(own)
        out.put_bytes(middle)
        _put_about(out, metadata, row, b',"metadata":')
        _put_about(out, projects, row, b',"project_id":')
        _put_about(out, users, row, b',"user_id":')
        out.put_bytes(after[meter])
    return out.taken()


cdef inline int _put_about(_Buffer out, list column, Py_ssize_t row, bytes name) except -1:
    if column:
        text = column[row]
        if text is not None:
            out.put_bytes(name)
            out.put_str(text)
    return 0
