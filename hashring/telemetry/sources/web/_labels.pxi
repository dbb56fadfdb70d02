# Part of _exposition.pyx and of _messages.pyx: what may stand in names, and labels of the usual kind
# as a resource's id and a sample's metadata have them.

from libc.string cimport memcmp, memcpy

cdef extern from "Python.h":
    object PyUnicode_New(Py_ssize_t size, Py_UCS4 largest)
    void *PyUnicode_DATA(object text)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)
    bint PyUnicode_IS_COMPACT_ASCII(object text)

cdef enum:
    MOST_LABELS = 32
    ROOM = 4096  # bytes, for labels of the usual kind as JSON
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


cdef struct Label:
    const char *start
    Py_ssize_t name, size  # of the name; of name="value"


cdef inline bint _is_plain(unsigned char one) noexcept nogil:
    """Whether a value's sign is written in JSON, in an id and in the text format as it is."""
    return 32 <= one <= 126 and one != 34 and one != 92


cdef inline int _order(const Label *one, const Label *other) noexcept nogil:
    """Whether one label's name comes after the other's."""
    cdef int found = memcmp(one.start, other.start, min(one.name, other.name))
    return found > 0 or (found == 0 and one.name > other.name)


cdef str _ascii(const char *data, Py_ssize_t size, str before=""):
    """Return a text that is known to be ASCII, behind another one that is."""
    cdef Py_ssize_t first = PyUnicode_GET_LENGTH(before)
    cdef str found = PyUnicode_New(first + size, 127)
    memcpy(PyUnicode_DATA(found), PyUnicode_DATA(before), first)
    memcpy(<char *> PyUnicode_DATA(found) + first, data, size)
    return found


cdef str _id_of(str resource_id, Label *labels, int count):
    """Return a resource's id: the target's, and the labels, which are sorted here."""
    cdef char text[ROOM]
    cdef Py_ssize_t out = 2
    cdef Label moved
    cdef int n, place
    for n in range(1, count):  # most are in order already
        moved = labels[n]
        place = n
        while place > 0 and _order(&labels[place - 1], &moved):
            labels[place] = labels[place - 1]
            place -= 1
        labels[place] = moved
    text[0], text[1] = 35, 123  # #{
    for n in range(count):
        memcpy(text + out, labels[n].start, labels[n].size)
        out += labels[n].size
        text[out] = 44  # ,
        out += 1
    text[out - 1] = 125  # } in place of the last comma
    return _ascii(text, out, resource_id)
