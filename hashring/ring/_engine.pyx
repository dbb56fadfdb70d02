# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: initializedcheck=False, embedsignature=True
"""The hot path of ``ring.py`` in C: hashing, slots, the table, and batch checks.

``hashring.ring.reference`` is the same in plain Python: what differs between the two is a bug here.
This module knows what a key, a slot and a member's number are. It knows no weights, no parameters
and no groups; ``ring.py`` turns those into the numbers that it is given here.

How a batch runs: a *source* hashes the next chunk of keys into an array of 32-bit hashes, then a
*sink* tests that chunk. No Python object is made for a key that is not in the result.
"""

cimport cython
from cpython.buffer cimport PyBUF_RECORDS_RO, PyBuffer_Release, PyObject_CheckBuffer
from cpython.buffer cimport PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.mem cimport PyMem_Calloc, PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.pycapsule cimport PyCapsule_GetPointer
from cpython.ref cimport PyObject
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy, memset

import re
import sys
from types import GenericAlias

from hashring.errors import BadKey, BadRing, EmptyRing, UnknownMember

__all__ = ["Keys", "SlotSet", "Table", "hash_all", "hash_key"]

# One extension, in parts: each is compiled as if it stood here. setup.py names them as well, so
# that a change in one builds the extension anew.
include "_declarations.pxi"
include "_hashing.pxi"
include "_sources.pxi"
include "_arrow.pxi"
include "_keys.pxi"
include "_slotset.pxi"
include "_table.pxi"
