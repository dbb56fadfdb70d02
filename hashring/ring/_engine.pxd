# The engine's C declarations: for other Cython modules that hash keys or test slots.

from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef uint64_t murmur(const uint8_t* data, Py_ssize_t length, uint32_t seed) noexcept nogil


cdef class SlotSet:
    cdef readonly Py_ssize_t slots
    cdef int bits
    cdef Py_ssize_t words
    cdef Py_ssize_t count           # of the slots in the set; -1 while not counted
    cdef uint64_t* word
    cdef Py_ssize_t size(self) noexcept


cdef class Keys:
    cdef tuple items                # what iteration yields, in order
    cdef bytes hashes               # the top 32 bits of each key's hash, native uint32
    cdef object key                 # None, or the callable that gives an item's key


cdef class Table:
    cdef readonly tuple ids         # sorted; the table's numbers index it
    cdef readonly Py_ssize_t universe
    cdef int bits
    cdef bytes data                 # uint32 for each slot; empty where nobody can own a key
    cdef const uint32_t* owner_of
    cdef uint64_t* streams          # each member's vnode stream
    cdef uint32_t* counts           # each member's number of vnodes
    cdef uint64_t* points           # sorted, made by the first owners(): point << 32 | member
    cdef Py_ssize_t total
    cdef int need_points(self) except -1
