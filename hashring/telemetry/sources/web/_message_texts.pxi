# Part of _messages.pyx: what a series' key says, by way of its text in the text format.

cdef enum:
    MOST_LABELS = 32
    NAME = 1  # may begin a name
    LABEL = 2  # may begin a label's name
    DIGIT = 4

cdef unsigned char _KINDS[256]
for _one in range(256):
    _KINDS[_one] = 0
for _letter in "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_":
    _KINDS[<int> ord(_letter)] = NAME | LABEL
_KINDS[ord(":")] = NAME
for _one in range(48, 58):
    _KINDS[_one] = DIGIT

cdef bytes _LE = b"le"
cdef bytes _QUANTILE = b"quantile"


cdef bytes _usual_text(bytes key):
    """Return a key as the text of its series; ``None`` where that is not one of the usual kind."""
    cdef Place at = <Place> PyBytes_AS_STRING(key)
    cdef Place end = at + PyBytes_GET_SIZE(key)
    cdef int kind = at[0]
    cdef Py_ssize_t name_size = at[1] | at[2] << 8 | at[3] << 16 | <Py_ssize_t> at[4] << 24
    cdef Place name = at + 5
    cdef bytes suffix = b"", bound_label = None, bound = b"", text
    cdef char *out
    cdef char *first
    cdef Py_ssize_t n
    if not _is_name(name, name_size, NAME):
        return None
    at = name + name_size
    if kind == SUM:
        suffix = b"_sum"
    elif kind == COUNT:
        suffix = b"_count"
    elif kind == QUANTILE or kind == BUCKET:
        bound_label, suffix = (_LE, b"_bucket") if kind == BUCKET else (_QUANTILE, b"")
        bound = plain.number_text(_double(at)).encode()
        at += 8
    # A label's tags and lengths take at least half of what its signs take in the text.
    text = PyBytes_FromStringAndSize(NULL, name_size + 2 * (end - at) + len(bound) + 32)
    out = first = PyBytes_AS_STRING(text)
    memcpy(out, name, name_size)
    out += name_size
    memcpy(out, PyBytes_AS_STRING(suffix), len(suffix))
    out += len(suffix)
    if at == end and bound_label is None:
        return text[: out - first]
    out[0] = 123  # {
    out += 1
    n = _write_labels(at, end, out, bound_label)
    if n < 0:
        return None
    out += n
    if bound_label is not None:
        bound = bound_label + b'="' + bound + b'",'
        memcpy(out, PyBytes_AS_STRING(bound), len(bound))
        out += len(bound)
    (out - 1)[0] = 125  # } in place of the last comma
    return text[: out - first]


cdef inline bint _is_name(Place at, Py_ssize_t size, int first) noexcept nogil:
    cdef Py_ssize_t n
    if size == 0 or not _KINDS[at[0]] & first:
        return False
    for n in range(1, size):
        if not _KINDS[at[n]] & (first | DIGIT):
            return False
    return True


cdef Py_ssize_t _write_labels(Place at, Place end, char *out, bytes reserved) except -2:
    """Write labels, each with a comma behind it; return how many bytes, or -1: an unusual one."""
    cdef Place names[MOST_LABELS]
    cdef Py_ssize_t sizes[MOST_LABELS]
    cdef int count = 0, n
    cdef Py_ssize_t size, place
    cdef char *first = out
    cdef Place part
    cdef Place value
    cdef Field field, one
    while at < end:
        _field(&at, end, &field)
        if count == MOST_LABELS:
            return -1
        names[count], sizes[count], value, size = NULL, 0, NULL, 0
        part = field.start
        while part < at:
            _field(&part, at, &one)
            if one.type == BYTES and one.number == 1:
                names[count], sizes[count] = one.start, one.value
            elif one.type == BYTES and one.number == 2:
                value, size = one.start, one.value
        if not _is_name(names[count], sizes[count], LABEL):
            return -1
        if sizes[count] > 1 and names[count][0] == 95 and names[count][1] == 95:  # __
            return -1
        if reserved is not None and sizes[count] == len(reserved) and not memcmp(
            names[count], PyBytes_AS_STRING(reserved), sizes[count]
        ):
            return -1
        for n in range(count):
            if sizes[n] == sizes[count] and not memcmp(names[n], names[count], sizes[n]):
                return -1
        memcpy(out, names[count], sizes[count])
        out += sizes[count]
        out[0], out[1] = 61, 34  # ="
        out += 2
        for place in range(size):
            if value[place] == 34 or value[place] == 92 or value[place] == 10:
                out[0] = 92  # a backslash
                out += 1
            out[0] = 110 if value[place] == 10 else <char> value[place]
            out += 1
        out[0], out[1] = 34, 44  # ",
        out += 2
        count += 1
    return out - first


def described_all(list keys not None, str resource_id not None):
    """See ``exposition_messages.described_all``."""
    cdef list texts = []
    cdef bytes key, text
    for key in keys:
        text = _usual_text(key)
        if text is None:
            return _described_one_by_one(keys, resource_id)
        texts.append(text)
    return _exposition.described_all(texts, resource_id)


cdef tuple _described_one_by_one(list keys, str resource_id):
    cdef list names = [], ids = [], metadata = []
    for key in keys:
        name, id_, labels = described(key, resource_id)
        names.append(name)
        ids.append(id_)
        metadata.append(labels)
    return names, ids, metadata


def described(bytes key not None, str resource_id not None):
    """See ``exposition_messages.described``."""
    cdef bytes text = _usual_text(key)
    if text is None:
        return plain.described(key, resource_id)
    return _exposition.described(text, resource_id)
