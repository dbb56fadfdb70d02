"""The lock beside a spool: the kernel's, on a file of its own, held as long as its process lives.

A spool whose lock is free is an orphan. This module knows names and locks, but no spool.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import sqlite3
from pathlib import Path

from hashring import clock
from hashring.telemetry.errors import SpoolBroken

__all__ = ["broken", "code_of", "lock_orphan", "lock_path", "new_name", "remove_stale_locks"]

_FULL = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR})


def new_name(folder: Path, owner: str) -> tuple[Path, int]:
    """Return a path that no spool has, and a descriptor that holds its lock."""
    readable = re.sub(r"[^A-Za-z0-9._-]+", "_", owner)[:40].strip("._") or "agent"
    while True:
        # The time comes first, so that names sort by age.
        name = f"{int(clock.wall() * 1e6):017d}-{readable}-{secrets.token_hex(4)}.spool"
        path = folder / name
        lock = os.open(lock_path(path), os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        if _has_locked(lock, lock_path(path)):
            return path, lock
        os.close(lock)  # somebody took it for a stale one, in the instant before we had it


def lock_orphan(path: Path) -> int | None:
    """Return a descriptor that holds a spool's lock; ``None`` while its process lives."""
    try:
        lock = os.open(lock_path(path), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        if _has_locked(lock, lock_path(path)):
            if path.exists():
                return lock
            lock_path(path).unlink(missing_ok=True)  # it was delivered and removed just now
    except OSError as error:
        raise broken(path, error) from None
    os.close(lock)
    return None


def _has_locked(lock: int, path: Path) -> bool:
    """Lock a file; whether that worked and the path still names that very file."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(lock), path.stat())
    except (BlockingIOError, FileNotFoundError):
        return False


def remove_stale_locks(folder: Path) -> None:
    """Remove locks without a spool: their process died between making the one and the other."""
    for path in folder.glob("*.lock"):
        if not path.with_suffix(".spool").exists():
            with contextlib.suppress(OSError):
                lock = os.open(path, os.O_RDWR | os.O_CLOEXEC)
                try:
                    if _has_locked(lock, path) and not path.with_suffix(".spool").exists():
                        path.unlink()
                finally:
                    os.close(lock)


def lock_path(path: Path) -> Path:
    """Return where the lock of a spool lies."""
    return path.with_suffix(".lock")


def code_of(error: sqlite3.Error) -> int:
    """Return what kind of error SQLite tells of."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF  # the low byte is the kind, the rest says more


def broken(path: Path, error: OSError | sqlite3.Error) -> SpoolBroken:
    """Return the error that a spool cannot be used, with what to do."""
    if isinstance(error, sqlite3.Error):
        why = str(error)
        full = code_of(error) in _FULL
    else:
        why = error.strerror or str(error)
        full = False
    what = "see whether its disk is full" if full else "see to it that it can be written"
    return SpoolBroken(f"the spool {str(path)!r} cannot be used: {why}; {what}")
