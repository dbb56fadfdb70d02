# Part of _messages.pyx: what a series' key says, by way of its text in the text format.

include "_labels.pxi"

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
        if not _is_usual_label(names[count], sizes[count], reserved):
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


cdef class _Usual:
    """Describes keys whose texts are ASCII without escapes, one after the other.

    Their labels are read where they are. What else there is goes by way of its text.
    """

    cdef str resource_id, name, id, metadata
    cdef bytes before
    cdef Place name_text  # within the key before
    cdef Py_ssize_t name_size
    cdef int kind
    cdef char text[ROOM]  # the labels in JSON
    cdef char pairs[ROOM]  # name="value",
    cdef Label labels[MOST_LABELS]

    def __cinit__(self, str resource_id):
        self.resource_id = resource_id

    cdef bint describe(self, bytes key) except -1:
        """Take what a key says; return whether it is of that kind."""
        cdef Place at = <Place> PyBytes_AS_STRING(key)
        cdef Place end = at + PyBytes_GET_SIZE(key)
        cdef int kind = at[0]
        cdef Py_ssize_t name_size = at[1] | at[2] << 8 | at[3] << 16 | <Py_ssize_t> at[4] << 24
        cdef Py_ssize_t size
        cdef Place name = at + 5
        cdef bytes reserved = None
        cdef double bound = 0.0
        if not self._take_name(key, name, name_size, kind):
            return False
        at = name + name_size
        if kind == QUANTILE or kind == BUCKET:
            reserved = _LE if kind == BUCKET else _QUANTILE
            bound = _double(at)
            at += 8
        # A label's tags and lengths take at least half of what its signs take in JSON.
        if 2 * (end - at) + 64 > ROOM or not PyUnicode_IS_COMPACT_ASCII(self.resource_id):
            return False
        size = self._take_labels(at, end, reserved, bound)
        return size >= 0

    cdef bint _take_name(self, bytes key, Place name, Py_ssize_t size, int kind) except -1:
        """Take a name; return whether it is of the usual kind."""
        if (
            self.name is None
            or kind != self.kind
            or size != self.name_size
            or memcmp(name, self.name_text, size)
        ):
            if not _is_name(name, size, NAME):
                return False
            self.name = _ascii(<const char *> name, size)
            if kind == BUCKET or kind == SUM or kind == COUNT:
                self.name += "_bucket" if kind == BUCKET else "_sum" if kind == SUM else "_count"
        self.before, self.name_text, self.name_size, self.kind = key, name, size, kind
        return True

    cdef Py_ssize_t _take_labels(
        self, Place at, Place end, bytes reserved, double bound
    ) except -2:
        """Take labels; return how many, or -1: an unusual one."""
        cdef int count = 0
        cdef char *text = self.text + 1
        cdef char *pairs = self.pairs
        cdef Place name
        cdef Place value
        cdef Place part
        cdef Py_ssize_t name_size, size
        cdef Field field, one
        cdef str bound_text
        while at < end:
            _field(&at, end, &field)
            name, name_size, value, size = NULL, 0, NULL, 0
            part = field.start
            while part < at:
                _field(&part, at, &one)
                if one.type == BYTES and one.number == 1:
                    name, name_size = one.start, one.value
                elif one.type == BYTES and one.number == 2:
                    value, size = one.start, one.value
            if count == MOST_LABELS or not _is_usual_label(name, name_size, reserved):
                return -1
            if not self._add(count, &text, &pairs, name, name_size, value, size):
                return -1
            count += 1
        if reserved is not None:
            name, name_size = <Place> PyBytes_AS_STRING(reserved), PyBytes_GET_SIZE(reserved)
            bound_text = plain.number_text(bound)
            value, size = <Place> PyUnicode_DATA(bound_text), PyUnicode_GET_LENGTH(bound_text)
            if count == MOST_LABELS:
                return -1
            self._add(count, &text, &pairs, name, name_size, value, size)
            count += 1
        if count == 0:
            self.id = self.metadata = None
            return 0
        self.text[0], (text - 1)[0] = 123, 125  # { and, in place of the last comma, }
        self.metadata = _ascii(self.text, text - self.text)
        self.id = _id_of(self.resource_id, self.labels, count)
        return count

    cdef bint _add(
        self,
        int count,
        char **text,
        char **pairs,
        Place name,
        Py_ssize_t name_size,
        Place value,
        Py_ssize_t size,
    ) noexcept:
        """Write a label; return whether it is of the usual kind, and none before has its name."""
        cdef int n
        cdef Py_ssize_t place
        cdef char *out = text[0]
        cdef char *pair = pairs[0]
        for n in range(count):
            if self.labels[n].name == name_size and not memcmp(
                self.labels[n].start, name, name_size
            ):
                return False
        self.labels[count].start = pair
        self.labels[count].name, self.labels[count].size = name_size, name_size + size + 3
        memcpy(pair, name, name_size)
        pair += name_size
        pair[0], pair[1] = 61, 34  # ="
        pair += 2
        out[0] = 34
        memcpy(out + 1, name, name_size)
        out += 1 + name_size
        out[0], out[1], out[2] = 34, 58, 34  # ":"
        out += 3
        for place in range(size):
            if not _is_plain(value[place]):
                return False
            out[place] = pair[place] = <char> value[place]
        out += size
        pair += size
        out[0], out[1] = 34, 44  # ",
        pair[0] = 34
        text[0], pairs[0] = out + 2, pair + 1
        return True


cdef inline bint _is_usual_label(Place name, Py_ssize_t size, bytes reserved) noexcept:
    """Whether a label's name may stand in a text, and is not what Prometheus or we set."""
    if not _is_name(name, size, LABEL) or (size > 1 and name[0] == 95 and name[1] == 95):  # __
        return False
    return reserved is None or not (
        size == PyBytes_GET_SIZE(reserved) and not memcmp(name, PyBytes_AS_STRING(reserved), size)
    )


def described_all(list keys not None, str resource_id not None):
    """See ``exposition_messages.described_all``."""
    cdef _Usual usual = _Usual(resource_id)
    cdef list names = [], ids = [], metadata = []
    cdef bytes key
    for key in keys:
        if not usual.describe(key):
            usual.name, usual.id, usual.metadata = described(key, resource_id)
            usual.kind = 0
        names.append(usual.name)
        ids.append(usual.id)
        metadata.append(usual.metadata)
    return names, ids, metadata


def described(bytes key not None, str resource_id not None):
    """See ``exposition_messages.described``."""
    cdef bytes text = _usual_text(key)
    if text is None:
        return plain.described(key, resource_id)
    return _exposition.described(text, resource_id)
