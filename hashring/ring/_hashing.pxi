# Part of _engine.pyx: a key's hash, and its slot. Nothing here knows of batches.

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
