# Part of _messages.pyx: protobuf's wire format, as protobuf_fields.py has it in plain Python.

cdef enum:
    VARINT = 0
    EIGHT = 1
    BYTES = 2
    FOUR = 5

ctypedef const unsigned char *Place


cdef struct Field:
    int number, type
    uint64_t value  # of a varint the number, otherwise how many bytes it is
    Place start  # where its bytes begin; of a varint, where it ends


cdef int _cut_off() except -1:
    raise BadExposition("a message ends before it should")


cdef inline int _varint(Place *at, Place end, uint64_t *found) except -1:
    cdef int shift = 0
    cdef unsigned char one
    found[0] = 0
    while True:
        if at[0] >= end:
            return _cut_off()
        if shift == 70:
            raise BadExposition("a number has more than ten bytes")
        one = at[0][0]
        at[0] += 1
        found[0] |= <uint64_t> (one & 0x7F) << shift
        if one < 0x80:
            return 0
        shift += 7


cdef inline int _field(Place *at, Place end, Field *found) except -1:
    """Read a field, and go to its end."""
    cdef uint64_t tag
    _varint(at, end, &tag)
    if tag < 8 or tag > 0xFFFFFFFF:
        raise BadExposition("a field has no legal number")
    found.number = <int> (tag >> 3)
    found.type = tag & 7
    if found.type == VARINT:
        _varint(at, end, &found.value)
        found.start = at[0]
        return 0
    if found.type == BYTES:
        _varint(at, end, &found.value)
    elif found.type == EIGHT:
        found.value = 8
    elif found.type == FOUR:
        found.value = 4
    else:
        raise BadExposition(f"a field has the unknown type {found.type}")
    if found.value > <uint64_t> (end - at[0]):
        return _cut_off()
    found.start = at[0]
    at[0] += found.value
    return 0


cdef inline double _double(Place at) noexcept nogil:
    cdef uint64_t bits = 0
    cdef double found
    cdef int n
    for n in range(8):
        bits |= <uint64_t> at[n] << (8 * n)
    memcpy(&found, &bits, 8)
    return found


cdef bytes _copy(Place start, Py_ssize_t size):
    return PyBytes_FromStringAndSize(<const char *> start, size)


cdef inline void _write(double number, char *text) noexcept nogil:
    cdef uint64_t bits
    cdef int n
    memcpy(&bits, &number, 8)
    for n in range(8):
        text[n] = <char> (bits >> (8 * n) & 255)
