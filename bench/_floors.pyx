# cython: language_level=3, boundscheck=False, wraparound=False
"""The floor under every check: reading each key once, and nothing else. Only `bench/` uses it."""

from cpython.ref cimport PyObject

cdef extern from "Python.h":
    bint PyUnicode_CheckExact(PyObject *)
    bint PyUnicode_IS_COMPACT_ASCII(PyObject *)
    int PyUnicode_KIND(PyObject *)
    void *PyUnicode_DATA(PyObject *)
    Py_ssize_t PyUnicode_GET_LENGTH(PyObject *)
    PyObject **PySequence_Fast_ITEMS(object)

cdef extern from *:
    """
    #if defined(__GNUC__) || defined(__clang__)
    #define floor_prefetch(address) __builtin_prefetch(address)
    #else
    #define floor_prefetch(address) ((void)(address))
    #endif
    """
    void floor_prefetch(const void *) noexcept

cdef enum:
    AHEAD = 16


def touch_all(list keys not None):
    """Return a sum of the first and the last byte of every str: each key is read, none hashed."""
    cdef Py_ssize_t i, size, total = len(keys)
    cdef PyObject **items = PySequence_Fast_ITEMS(keys)
    cdef const unsigned char *data
    cdef unsigned long long found = 0
    for i in range(total):
        if i + AHEAD < total:
            floor_prefetch(items[i + AHEAD])
            floor_prefetch(<const char *>items[i + AHEAD] + 64)
        if not PyUnicode_CheckExact(items[i]):
            raise TypeError("touch_all() takes a list of str")
        size = PyUnicode_GET_LENGTH(items[i]) * PyUnicode_KIND(items[i])
        if size:
            data = <const unsigned char *>PyUnicode_DATA(items[i])
            found += data[0] + data[size - 1]
    return found
