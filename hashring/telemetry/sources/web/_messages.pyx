# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Expositions in protobuf at C speed. ``exposition_messages.py`` is the same in plain Python."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint32_t, uint64_t

import hashring.telemetry.sources.web._exposition as _exposition
import hashring.telemetry.sources.web.exposition_messages as plain
from hashring.telemetry.errors import BadExposition

cdef enum:
    MAX_LABELS = 65536  # bytes
    MAX_BOUNDS = 16384
    # The metrics' types.
    SUMMARY = 2
    HISTOGRAM = 4
    GAUGE_HISTOGRAM = 5
    TYPES = 6
    # The samples' kinds.
    ITSELF = 1
    QUANTILE = 2
    BUCKET = 3
    SUM = 4
    COUNT = 5

cdef int _BODIES[TYPES]
for _one in range(TYPES):
    _BODIES[_one] = plain._BODIES[_one]

cdef double _INFINITY = float("inf")


include "_message_fields.pxi"


cdef class _Pieces:
    """Bytes that mostly stand together, and are put together where they do not."""

    cdef Place start
    cdef Py_ssize_t size
    cdef list apart
    cdef bytes joined

    cdef int add(self, Place start, Py_ssize_t size) except -1:
        if self.start is NULL:
            self.start, self.size = start, size
        elif self.apart is None and start == self.start + self.size:
            self.size += size
        else:
            if self.apart is None:
                self.apart = [_copy(self.start, self.size)]
            self.apart.append(_copy(start, size))
            self.size += size
        return 0

    cdef int join(self) except -1:
        if self.apart is not None:
            self.joined = b"".join(self.apart)
            self.start = <Place> PyBytes_AS_STRING(self.joined)
        return 0

    cdef int clear(self) except -1:
        self.start, self.size = NULL, 0
        if self.apart is not None:
            self.apart = self.joined = None
        return 0


cdef inline int _check_bounds(int number) except -1:
    if number > MAX_BOUNDS:
        raise BadExposition(f"a series has more than {MAX_BOUNDS} buckets or quantiles")
    return 0


cdef class Scanner:
    """See ``exposition_messages.Scanner``."""

    cdef readonly list keys, volumes, said
    cdef readonly bint is_same
    cdef bytes _body, _head  # the name of the metric that is being read, behind its length
    cdef list _known
    cdef Py_ssize_t _at, _end  # the end of the family that is being read
    cdef int _type
    cdef _Pieces _labels, _value

    def __init__(self, bytes body not None, list known not None):
        self.keys, self.volumes, self.said = [], [], []
        self.is_same = True
        self._body, self._known = body, known
        self._head = b""
        self._labels, self._value = _Pieces(), _Pieces()

    def read(self, Py_ssize_t size):
        """See ``exposition_messages.Scanner.read``."""
        cdef Place body = <Place> PyBytes_AS_STRING(self._body)
        cdef Place whole = body + PyBytes_GET_SIZE(self._body)
        cdef Place at = body + self._at
        cdef Place until = at + min(size, whole - at)
        cdef uint64_t many
        cdef Field field
        while at < whole:
            if at < body + self._end:
                _field(&at, body + self._end, &field)
                if field.number == 4 and field.type == BYTES:
                    self._series(field.start, field.start + field.value)
            else:
                _varint(&at, whole, &many)
                if many > <uint64_t> (whole - at):
                    _cut_off()
                self._begin(at, at + many)
                self._end = at + many - body
            if at >= until:
                self._at = at - body
                return at < whole
        return False

    cdef int _begin(self, Place at, Place end) except -1:
        cdef Place name = NULL
        cdef Place unit = NULL
        cdef Py_ssize_t name_size = 0, unit_size = 0
        cdef uint64_t type_ = 0
        cdef bint has_series = False
        cdef uint32_t size
        cdef Field field
        while at < end:
            _field(&at, end, &field)
            if field.type == BYTES:
                if field.number == 1:
                    name, name_size = field.start, <Py_ssize_t> field.value
                elif field.number == 5:
                    unit, unit_size = field.start, <Py_ssize_t> field.value
                elif field.number == 4:
                    has_series = True
            elif field.number == 3 and field.type == VARINT:
                type_ = field.value
        if type_ >= TYPES:
            raise BadExposition(f"{type_} is not a type of a metric")
        if not name_size and has_series:
            raise BadExposition("a metric has no name")
        if not has_series:
            return 0  # there may be millions
        self._type = <int> type_
        size = <uint32_t> name_size
        self._head = bytes((size & 255, size >> 8 & 255, size >> 16 & 255, size >> 24)) + (
            _copy(name, name_size)
        )
        self.said.append(bytes((type_,)) + self._head + _copy(unit, unit_size))
        return 0

    cdef int _series(self, Place at, Place end) except -1:
        cdef _Pieces labels = self._labels, value = self._value
        cdef Place before
        cdef Field field
        labels.clear()
        value.clear()
        while at < end:
            before = at
            _field(&at, end, &field)
            if field.type == BYTES:
                if field.number == 1:
                    labels.add(before, at - before)
                elif field.number == _BODIES[self._type]:
                    value.add(field.start, field.value)
        if labels.size > MAX_LABELS:
            raise BadExposition(f"a series' labels have more than {MAX_LABELS} bytes")
        if value.start is NULL:
            raise BadExposition(
                f"a metric of the type {plain._TYPES[self._type]} has no value of it"
            )
        labels.join()
        value.join()
        if self._type == SUMMARY:
            return self._summary(value.start, value.start + value.size)
        if self._type == HISTOGRAM or self._type == GAUGE_HISTOGRAM:
            return self._histogram(value.start, value.start + value.size)
        return self._alone(value.start, value.start + value.size)

    cdef int _alone(self, Place at, Place end) except -1:
        cdef double volume = 0.0
        cdef Field field
        while at < end:
            _field(&at, end, &field)
            if field.number == 1 and field.type == EIGHT:
                volume = _double(field.start)
        return self._add(ITSELF, 0.0, volume)

    cdef int _summary(self, Place at, Place end) except -1:
        cdef uint64_t count = 0
        cdef double total = 0.0, quantile, volume
        cdef int bounds = 0
        cdef Place one
        cdef Field field, part
        while at < end:
            _field(&at, end, &field)
            if field.number == 1 and field.type == VARINT:
                count = field.value
            elif field.number == 2 and field.type == EIGHT:
                total = _double(field.start)
            elif field.number == 3 and field.type == BYTES:
                bounds += 1
                _check_bounds(bounds)
                quantile = volume = 0.0
                one = field.start
                while one < at:
                    _field(&one, at, &part)
                    if part.number == 1 and part.type == EIGHT:
                        quantile = _double(part.start)
                    elif part.number == 2 and part.type == EIGHT:
                        volume = _double(part.start)
                self._add(QUANTILE, quantile, volume)
        self._add(SUM, 0.0, total)
        return self._add_whole(COUNT, 0.0, count)

    cdef int _histogram(self, Place start, Place end) except -1:
        cdef Place at = start
        cdef Field field
        cdef uint64_t count = 0
        cdef double count_float = 0.0, total = 0.0
        cdef int bounds = 0
        cdef bint is_native = False, has_infinity = False
        while at < end:
            _field(&at, end, &field)
            if field.number == 1 and field.type == VARINT:
                count = field.value
            elif field.number == 2 and field.type == EIGHT:
                total = _double(field.start)
            elif field.number == 3 and field.type == BYTES:
                bounds += 1
                _check_bounds(bounds)
                has_infinity |= self._bucket(field.start, at)
            elif field.number == 4 and field.type == EIGHT:
                count_float = _double(field.start)
            elif 6 <= field.number <= 14:
                is_native = True
        if is_native and not bounds:
            for bound, found in plain.native_histograms.buckets(_copy(start, end - start)):
                self._add_object(BUCKET, bound, found)
        if not has_infinity:
            self._add_count(BUCKET, _INFINITY, count, count_float)
        self._add(SUM, 0.0, total)
        return self._add_count(COUNT, 0.0, count, count_float)

    cdef int _bucket(self, Place at, Place end) except -1:
        """Read a bucket; return whether it is the one of infinity."""
        cdef uint64_t count = 0
        cdef double count_float = 0.0, bound = 0.0
        cdef Field field
        while at < end:
            _field(&at, end, &field)
            if field.number == 1 and field.type == VARINT:
                count = field.value
            elif field.number == 2 and field.type == EIGHT:
                bound = _double(field.start)
            elif field.number == 4 and field.type == EIGHT:
                count_float = _double(field.start)
        self._add_count(BUCKET, bound, count, count_float)
        return bound == _INFINITY

    cdef int _add_count(self, int kind, double bound, uint64_t count, double real) except -1:
        return self._add(kind, bound, real) if real > 0 else self._add_whole(kind, bound, count)

    cdef int _add_whole(self, int kind, double bound, uint64_t count) except -1:
        self._know(kind, bound)
        self.volumes.append(count)
        return 0

    cdef int _add(self, int kind, double bound, double volume) except -1:
        self._know(kind, bound)
        self.volumes.append(volume if volume - volume == 0.0 else None)
        return 0

    cdef int _add_object(self, int kind, double bound, object volume) except -1:
        if isinstance(volume, float):
            return self._add(kind, bound, volume)
        self._know(kind, bound)
        self.volumes.append(volume)
        return 0

    cdef int _know(self, int kind, double bound) except -1:
        """Add a key: the known one of its place, where it is the same."""
        cdef const char *head = PyBytes_AS_STRING(self._head)
        cdef Py_ssize_t head_size = PyBytes_GET_SIZE(self._head), place = len(self.keys)
        cdef Py_ssize_t bound_size = 8 if kind == QUANTILE or kind == BUCKET else 0
        cdef Py_ssize_t size = 1 + head_size + bound_size + self._labels.size
        cdef bytes key
        cdef char *text
        cdef char number[8]
        _write(bound, number)
        if place < len(self._known):
            key = self._known[place]
            text = PyBytes_AS_STRING(key)
            if (
                PyBytes_GET_SIZE(key) == size
                and text[0] == kind
                and not memcmp(text + 1, head, head_size)
                and (not bound_size or not memcmp(text + 1 + head_size, number, 8))
                and (
                    not self._labels.size
                    or not memcmp(
                        text + 1 + head_size + bound_size, self._labels.start, self._labels.size
                    )
                )
            ):
                self.keys.append(key)
                return 0
        self.is_same = False
        key = PyBytes_FromStringAndSize(NULL, size)
        text = PyBytes_AS_STRING(key)
        text[0] = kind
        memcpy(text + 1, head, head_size)
        memcpy(text + 1 + head_size, number, bound_size)
        if self._labels.size:
            memcpy(text + 1 + head_size + bound_size, self._labels.start, self._labels.size)
        self.keys.append(key)
        return 0


def count_samples(bytes body not None):
    """See ``exposition_messages.count_samples``."""
    cdef Place at = <Place> PyBytes_AS_STRING(body)
    cdef Place whole = at + PyBytes_GET_SIZE(body)
    cdef uint64_t many
    cdef Py_ssize_t found = 0
    try:
        while at < whole:
            _varint(&at, whole, &many)
            if many > <uint64_t> (whole - at):
                return found
            _count_family(at, at + many, &found)
            at += many
    except BadExposition:
        pass  # whoever reads it will say what is wrong
    return found


cdef int _count_family(Place at, Place end, Py_ssize_t *found) except -1:
    cdef Place series
    cdef Place part
    cdef Field family, field, one
    while at < end:
        _field(&at, end, &family)
        if family.number != 4 or family.type != BYTES:
            continue
        found[0] += 1
        series = family.start
        while series < at:
            _field(&series, at, &field)
            if field.type != BYTES or not (field.number == 4 or field.number == 7):
                continue
            found[0] += 3
            part = field.start
            while part < series:
                _field(&part, series, &one)
                if one.number == 3:
                    found[0] += 1
                elif one.number in (10, 11, 13, 14):
                    found[0] += <Py_ssize_t> one.value if one.type == BYTES else 1
    return 0


include "_message_texts.pxi"
