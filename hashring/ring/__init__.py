"""Members -> table -> ownership: which member owns a key, and which of many keys are its own.

Pure: no store, clock, socket or thread. ``ring`` is what users import, ``reference`` the plain
Python that says what is right, ``_engine`` the same in C.
"""

from __future__ import annotations

from hashring.ring.ring import (
    LAYOUT,
    LOAD_BOUND,
    SLOTS,
    VNODES,
    HashRing,
    Keys,
    SlotSet,
)

__all__ = ["LAYOUT", "LOAD_BOUND", "SLOTS", "VNODES", "HashRing", "Keys", "SlotSet"]
