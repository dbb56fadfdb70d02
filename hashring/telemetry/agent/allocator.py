"""The C library's memory for threads: an agent has tens of them, and gives back what they freed.

glibc gives threads heaps of their own, up to eight a processor, and keeps in each what was freed
there. So what is bounded in use (see ``answers.py``) grows with every thread that once read a large
answer. This module knows the C library alone.
"""

from __future__ import annotations

import ctypes
import os

__all__ = ["share_heaps"]

_ARENA_MAX = -8  # M_ARENA_MAX of malloc.h
_HEAPS = 2
"""More would let C code of several threads allocate at once, which here happens rarely: Python lets
one thread run at a time, and has an allocator of its own for what is small."""


def share_heaps() -> bool:
    """Let all threads that begin from now on share two heaps; return whether the C library can.

    What the environment says (``MALLOC_ARENA_MAX``) stands.
    """
    if "MALLOC_ARENA_MAX" in os.environ:
        return False
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # no glibc
        return False
    return bool(set_option(_ARENA_MAX, _HEAPS))
