"""``sqlite:///path``: groups of processes on one host; see :mod:`.driver`."""

from .driver import SQLiteDriver

__all__ = ["SQLiteDriver"]
