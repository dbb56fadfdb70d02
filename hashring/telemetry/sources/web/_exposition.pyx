# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The lines of an exposition at C speed. ``exposition_lines.py`` is the same in plain Python."""

import json

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memchr

cdef extern from "Python.h":
    double PyOS_string_to_double(const char *s, char **end, void *overflow) except? -1.0
    object PyUnicode_DecodeUTF8(const char *data, Py_ssize_t size, const char *errors)

cdef object _text = json.encoder.encode_basestring_ascii

cdef enum:
    MAX_LINE = 65536
    MOST_DIGITS = 40


include "_labels.pxi"


cdef double _POWERS[23]
for _one in range(23):
    _POWERS[_one] = 10.0 ** _one


cdef struct Number:
    bint is_whole
    bint is_finite
    long long whole
    double broken


cdef inline bint _is_blank(char one) noexcept nogil:
    return one == 32 or one == 9


cdef const char *_series_end(const char *at, const char *end) noexcept nogil:
    """Return where a series' text ends; NULL where there is no series, or an odd one."""
    cdef const char *names[MOST_LABELS]
    cdef Py_ssize_t sizes[MOST_LABELS]
    cdef int count = 0, n
    cdef const char *start
    if at >= end or not _KINDS[<unsigned char> at[0]] & NAME:
        return NULL
    while at < end and _KINDS[<unsigned char> at[0]]:
        at += 1
    if at < end and _is_blank(at[0]):
        return at
    if at >= end or at[0] != 123:  # {
        return NULL
    at += 1
    while True:
        if at < end and at[0] == 125:  # }
            return at + 1
        start = at
        if at >= end or not _KINDS[<unsigned char> at[0]] & LABEL or count == MOST_LABELS:
            return NULL
        while at < end and _KINDS[<unsigned char> at[0]] & (LABEL | DIGIT):
            at += 1
        names[count], sizes[count] = start, at - start
        if at - start >= 2 and start[0] == 95 and start[1] == 95:  # __
            return NULL
        for n in range(count):
            if sizes[n] == sizes[count] and not memcmp(names[n], start, sizes[n]):
                return NULL
        count += 1
        if end - at < 2 or at[0] != 61 or at[1] != 34:  # ="
            return NULL
        at += 2
        while at < end and at[0] != 34:
            if at[0] == 92:  # a backslash
                at += 1
                if at >= end or not (at[0] == 92 or at[0] == 34 or at[0] == 110):
                    return NULL
            at += 1
        if at >= end:
            return NULL
        at += 1
        if at < end and at[0] == 44:  # ,
            at += 1
        elif at >= end or at[0] != 125:
            return NULL


cdef bint _is_time(const char *at, const char *end) noexcept nogil:
    """Return whether all that is left is blanks and a time stamp, or nothing."""
    cdef const char *start
    if at == end:
        return True
    if at[0] != 32:
        return False
    while at < end and at[0] == 32:
        at += 1
    if at < end and at[0] == 45:  # -
        at += 1
    start = at
    while at < end and _KINDS[<unsigned char> at[0]] & DIGIT:
        at += 1
    if not 1 <= at - start <= 18:
        return False
    if at < end and at[0] == 46:  # .
        at += 1
        start = at
        while at < end and _KINDS[<unsigned char> at[0]] & DIGIT:
            at += 1
        if not 1 <= at - start <= 18:
            return False
    return at == end


cdef bint _special(const char *at, const char *end, Number *found) noexcept nogil:
    """Read NaN or an infinity."""
    cdef const char *start = at
    if end - at >= 3 and not memcmp(at, b"NaN", 3):
        at += 3
    else:
        if at < end and (at[0] == 43 or at[0] == 45):
            at += 1
        if end - at < 3 or memcmp(at, b"Inf", 3):
            return False
        at += 3
    found.is_whole = found.is_finite = False
    return _is_time(at, end)


cdef int _number(const char *at, const char *end, Number *found) except -1:
    """Read what follows a series; return whether it is of the strict grammar."""
    cdef const char *start
    cdef const char *digits
    cdef unsigned long long mantissa = 0
    cdef int count = 0, kept = 0, scale = 0, power = 0, power_digits = 0, whole = 0
    cdef bint negative, power_negative = False, is_whole = True
    cdef char copy[MOST_DIGITS + 1]
    while at < end and _is_blank(at[0]):
        at += 1
    start = at
    if at < end and (at[0] == 43 or at[0] == 45):
        at += 1
    negative = start < at and start[0] == 45
    digits = at
    while at < end and _KINDS[<unsigned char> at[0]] & DIGIT:
        if kept < 18:
            mantissa = mantissa * 10 + <unsigned long long> (at[0] - 48)
            kept += 1
        count += 1
        at += 1
    whole = count
    if at < end and at[0] == 46:
        is_whole = False
        at += 1
        while at < end and _KINDS[<unsigned char> at[0]] & DIGIT:
            if kept < 18:
                mantissa = mantissa * 10 + <unsigned long long> (at[0] - 48)
                kept += 1
                scale += 1
            count += 1
            at += 1
    if count == 0:
        return _special(start, end, found)
    if at < end and (at[0] == 101 or at[0] == 69):
        is_whole = False
        at += 1
        if at < end and (at[0] == 43 or at[0] == 45):
            power_negative = at[0] == 45
            at += 1
        while at < end and _KINDS[<unsigned char> at[0]] & DIGIT:
            power = power * 10 + at[0] - 48
            power_digits += 1
            if power_digits > 4:
                return False
            at += 1
        if power_digits == 0:
            return False
    if not _is_time(at, end):
        return False
    found.is_finite = True
    found.is_whole = is_whole
    if is_whole:
        if whole > 18:
            return False
        found.whole = -<long long> mantissa if negative else <long long> mantissa
        return True
    # A number's own characters end where its time stamp's blanks begin.
    if at - start > MOST_DIGITS:
        return False
    power = (-power if power_negative else power) - scale
    if count == kept and mantissa <= 9007199254740992 and -22 <= power <= 22:
        # Both are exact, so the one rounding of the product is the right one.
        found.broken = (
            <double> mantissa / _POWERS[-power] if power < 0 else <double> mantissa * _POWERS[power]
        )
        if negative:
            found.broken = -found.broken
        return True
    memcpy(copy, start, at - start)
    copy[at - start] = 0
    found.broken = PyOS_string_to_double(copy, NULL, NULL)
    found.is_finite = found.broken - found.broken == 0.0
    return True


cdef class Scanner:
    """See ``exposition_lines.Scanner``."""

    cdef readonly list keys, volumes, odd, said
    cdef readonly bint is_same, is_odd, is_over, follows_end
    cdef readonly Py_ssize_t not_finite
    cdef bytes _body
    cdef list _known
    cdef Py_ssize_t _at

    def __init__(self, bytes body not None, list known not None):
        self.keys, self.volumes, self.odd, self.said = [], [], [], []
        self.is_same = True
        self._body = body
        self._known = known

    def read(self, Py_ssize_t size):
        """See ``exposition_lines.Scanner.read``."""
        cdef const char *body = PyBytes_AS_STRING(self._body)
        cdef Py_ssize_t whole = PyBytes_GET_SIZE(self._body)
        cdef Py_ssize_t until = min(whole, self._at + size)
        cdef const char *line
        cdef const char *end
        while self._at < until and not self.is_odd:
            line = body + self._at
            end = <const char *> memchr(line, 10, whole - self._at)
            if end is NULL:
                end = body + whole
            self._at = end - body + 1
            if end - line > MAX_LINE:
                self.is_odd = True
                break
            while line < end and (_is_blank(line[0]) or line[0] == 13):
                line += 1
            while end > line and (_is_blank((end - 1)[0]) or (end - 1)[0] == 13):
                end -= 1
            self._line(line, end)
        return self._at < whole and not self.is_odd

    cdef int _line(self, const char *line, const char *end) except -1:
        if self.is_over:
            self.follows_end = True
        if line == end:
            return 0
        if line[0] == 35:  # #
            return self._comment(line, end)
        if _KINDS[<unsigned char> line[0]] & NAME or line[0] == 123 or line[0] == 34:
            return self._sample(line, end)
        self.is_odd = True
        return 0

    cdef int _comment(self, const char *line, const char *end) except -1:
        cdef const char *at = line + 1
        self.is_over = end - line == 5 and not memcmp(line, b"# EOF", 5)
        if end - line > 5 and not memcmp(line, b"# EOF", 5):
            self.is_odd = True
        while at < end and _is_blank(at[0]):
            at += 1
        if at < end and (at[0] == 84 or at[0] == 85):  # T, U
            self.said.append(PyBytes_FromStringAndSize(line, end - line))
        return 0

    cdef int _sample(self, const char *line, const char *end) except -1:
        cdef Py_ssize_t place = len(self.keys), size = 0
        cdef const char *at = NULL
        cdef bytes key = None
        cdef Number number
        number.whole, number.broken = 0, 0.0
        if place < len(self._known):
            key = self._known[place]
            size = PyBytes_GET_SIZE(key)
            if (
                0 < size < end - line
                and not memcmp(line, PyBytes_AS_STRING(key), size)
                and (line[size - 1] == 125 or _is_blank(line[size]))
            ):
                at = line + size
        if at is NULL:
            key = None
            at = _series_end(line, end)
        if at is NULL or not _number(at, end, &number):
            self.odd.append((place, PyBytes_FromStringAndSize(line, end - line)))
            self.keys.append(None)
            self.volumes.append(None)
            return 0
        if key is None:
            self.is_same = False
            key = PyBytes_FromStringAndSize(line, at - line)
        self.keys.append(key)
        if not number.is_finite:
            self.not_finite += 1
            self.volumes.append(None)
        elif number.is_whole:
            self.volumes.append(number.whole)
        else:
            self.volumes.append(number.broken)
        return 0


cdef str _decoded(const char *start, const char *end):
    return PyUnicode_DecodeUTF8(start, end - start, NULL)


cdef str _unescaped(str value):
    cdef list parts = value.split("\\\\")
    return "\\".join([part.replace('\\"', '"').replace("\\n", "\n") for part in parts])


cdef class _Usual:
    """Describes series' texts without escapes, of ASCII alone, one after the other."""

    cdef str resource_id, name, id, metadata
    cdef bytes before
    cdef const char *name_text  # within the text before
    cdef Py_ssize_t name_size

    def __cinit__(self, str resource_id):
        self.resource_id = resource_id

    cdef bint describe(self, bytes text_of) except -1:
        """Take what a text says; return whether it is of that kind."""
        cdef const char *key = PyBytes_AS_STRING(text_of)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(text_of)
        cdef Label labels[MOST_LABELS]
        cdef char text[ROOM]
        cdef const char *at = <const char *> memchr(key, 123, size)
        cdef const char *end = key + size
        cdef const char *start
        cdef Py_ssize_t out = 1
        cdef int count = 0
        if at is NULL:
            at = end
        self._take_name(key, at - key)
        self.before = text_of
        at += 1
        if 2 * (end - at) + 8 > ROOM or not PyUnicode_IS_COMPACT_ASCII(self.resource_id):
            return False
        text[0] = 123
        while at < end and at[0] != 125:
            if count == MOST_LABELS:
                return False
            labels[count].start = start = at
            text[out] = 34
            out += 1
            while at < end and at[0] != 61:
                text[out] = at[0]
                out += 1
                at += 1
            labels[count].name = at - start
            text[out], text[out + 1], text[out + 2] = 34, 58, 34
            out += 3
            at += 2
            while at < end and at[0] != 34:
                if not _is_plain(at[0]):
                    return False
                text[out] = at[0]
                out += 1
                at += 1
            text[out], text[out + 1] = 34, 44
            out += 2
            at += 1
            labels[count].size = at - labels[count].start
            count += 1
            if at < end and at[0] == 44:
                at += 1
        if count == 0:
            self.id = self.metadata = None
            return True
        if at >= end:
            return False
        text[out - 1] = 125
        self.metadata = _ascii(text, out)
        self.id = _id_of(self.resource_id, labels, count)
        return True

    cdef int _take_name(self, const char *text, Py_ssize_t size) except -1:
        """Take a name: the object of the key before, where it is the same."""
        if self.name is None or size != self.name_size or memcmp(text, self.name_text, size):
            self.name = _decoded(text, text + size)
        self.name_text, self.name_size = text, size
        return 0


def described_all(list keys not None, str resource_id not None):
    """See ``exposition_lines.described_all``."""
    cdef _Usual usual = _Usual(resource_id)
    cdef list names = [], ids = [], metadata = []
    cdef bytes key
    for key in keys:
        if not usual.describe(key):
            usual.name, usual.id, usual.metadata = _described(key, resource_id)
        names.append(usual.name)
        ids.append(usual.id)
        metadata.append(usual.metadata)
    return names, ids, metadata


def described(bytes key not None, str resource_id not None):
    """See ``exposition_lines.described``."""
    cdef _Usual usual = _Usual(resource_id)
    if usual.describe(key):
        return usual.name, usual.id, usual.metadata
    return _described(key, resource_id)


cdef tuple _described(bytes key, str resource_id):
    """Describe any series' text."""
    cdef const char *at = PyBytes_AS_STRING(key)
    cdef const char *end = at + PyBytes_GET_SIZE(key)
    cdef const char *start = at
    cdef const char *pair
    cdef str name, label, value
    cdef list shown = [], labels = []
    cdef bint has_escape
    while at < end and at[0] != 123:
        at += 1
    name = _decoded(start, at)
    at += 1
    while at < end and at[0] != 125:
        pair = start = at
        while at < end and at[0] != 61:
            at += 1
        label = _decoded(start, at)
        at += 2
        start = at
        has_escape = False
        while at < end and at[0] != 34:
            if at[0] == 92:
                has_escape = True
                at += 1
            at += 1
        if at >= end:
            raise ValueError(f"{key!r} is not a series")
        value = _decoded(start, at)
        at += 1
        shown.append((label, _decoded(pair, at)))
        labels.append(f'"{label}":{_text(_unescaped(value) if has_escape else value)}')
        if at < end and at[0] == 44:
            at += 1
    if not shown:
        return name, None, None
    shown.sort()
    text = ",".join([each for _, each in shown])
    return name, f"{resource_id}#{{{text}}}", f"{{{','.join(labels)}}}"
