"""The C library's memory for threads: an agent has tens of them, and gives back what they freed.

glibc gives threads heaps of their own, up to eight a processor, and keeps in each what was freed
there. So what is bounded in use (see ``answers.py``) grows with every thread that once read a large
answer. And it gives what is large back to the system at once: each answer of a target, and each
piece for a sink, would be new pages, which the system clears first. This module knows the C library
alone.
"""

from __future__ import annotations

import ctypes
import os

__all__ = ["keep_pages", "share_heaps"]

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # M_... of malloc.h
_HEAPS = 2
"""More would let C code of several threads allocate at once, which here happens rarely: Python lets
one thread run at a time, and has an allocator of its own for what is small."""

_LARGE = 4 * 1024 * 1024
"""Bytes from which on a piece of memory is the system's own, and given back at once."""

_KEPT = 8 * 1024 * 1024
"""Bytes that are free at a heap's end from which on they are given back."""


def share_heaps() -> bool:
    """Let all threads that begin from now on share two heaps; return whether the C library can.

    What the environment says (``MALLOC_ARENA_MAX``) stands.
    """
    return _set("MALLOC_ARENA_MAX", _ARENA_MAX, _HEAPS)


def keep_pages() -> bool:
    """Keep a little of what is freed for what comes next; return whether the C library can.

    What the environment says (``MALLOC_MMAP_THRESHOLD_``, ``MALLOC_TRIM_THRESHOLD_``) stands.
    """
    large = _set("MALLOC_MMAP_THRESHOLD_", _MMAP_THRESHOLD, _LARGE)
    return _set("MALLOC_TRIM_THRESHOLD_", _TRIM_THRESHOLD, _KEPT) and large


def _set(variable: str, option: int, value: int) -> bool:
    if variable in os.environ:
        return False
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # no glibc
        return False
    return bool(set_option(option, value))
