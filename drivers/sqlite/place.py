"""Where a SQLite store lies: one file, by one name, with the two files that SQLite keeps beside it.

SQLite finds ``-wal`` and ``-shm`` by the database's *name*. Processes that reach one database by
two names, or of which some have a ``-wal`` or ``-shm`` that was deleted meanwhile, do not see each
other's writes. So the one is refused, and the other counts as another file. This module knows paths
and the kernel's account of them, and nothing of leases.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import os
import stat
import struct
from pathlib import Path

__all__ = ["LivenessMark", "Place", "Unusable", "look", "refuse_a_mounted_file"]

MOUNTS = Path("/proc/self/mountinfo")


class Unusable(Exception):
    """Why a file cannot be the store; the driver adds its URL."""


@dataclasses.dataclass(frozen=True)
class Place:
    """What is found at a path.

    Attributes:
        file: the database's device and inode; ``None``: there is no database.
        beside: the inodes of ``-wal`` and ``-shm``.
        links: how many names the database has.
    """

    file: str | None
    beside: str
    links: int

    @property
    def identity(self) -> str:
        """The three files as one: whoever has the same sees the same store."""
        return f"{self.file} {self.beside}"

    def refuse_other_names(self, path: Path) -> None:
        """Refuse a file with hard links.

        Raises:
            Unusable: it has more names than one.
        """
        if self.links > 1:
            raise Unusable(
                f"{path} has {self.links} names (hard links). Those who open it by another one "
                "make a second group in the same file: remove the other names (find them with "
                f"find -samefile {path}), and let all agents name this one"
            )


def look(path: Path) -> Place:
    """Return what is at a path now; links are followed."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return Place(None, "", 0)
    target = path.resolve()
    beside = (_inode(target.with_name(target.name + end)) for end in ("-wal", "-shm"))
    links = found.st_nlink if stat.S_ISREG(found.st_mode) else 1  # a folder always has more
    return Place(f"{found.st_dev}:{found.st_ino}", " ".join(beside), links)


def _inode(path: Path) -> str:
    try:
        return str(path.stat().st_ino)
    except FileNotFoundError:
        return "-"


def refuse_a_mounted_file(path: Path) -> None:
    """Refuse a file that is itself a mount point, as where a container got the file alone.

    Its ``-wal`` and ``-shm`` would lie in the container's own folder, which no other one sees.

    Args:
        path: a resolved path.

    Raises:
        Unusable: it is one.
    """
    try:
        mounts = MOUNTS.read_text().splitlines()
    except OSError:
        return
    # The fifth field is the mount point; space, tab, newline and backslash are octal there.
    points = {mount.split(" ")[4] for mount in mounts if mount.count(" ") > 4}
    octal = {" ": r"\040", "\t": r"\011", "\n": r"\012"}
    escaped = str(path).replace("\\", r"\134")
    for character, code in octal.items():
        escaped = escaped.replace(character, code)
    if escaped in points:
        raise Unusable(
            f"{path} is mounted by itself. SQLite keeps two more files beside it, which the other "
            f"containers then do not see: mount the folder {path.parent} in its place"
        )


class LivenessMark:
    """A lock on one byte of a store's folder, that says: a process has this store open.

    It outlives the files' removal and ends with the process, however that ends. Its place tells
    name and identity, so that whoever opens a file learns of those that have *another* one of the
    same name.

    Args:
        folder: a descriptor of the folder; the mark goes when it is closed.
        name: the database's name in it.
        identity: :attr:`Place.identity`.
    """

    _SIZE = 1 << 31  # bytes for each name, and names

    def __init__(self, folder: int, name: str, identity: str) -> None:
        self._folder = folder
        self._first = self._hash(name) * self._SIZE
        self._own = self._first + self._hash(identity)

    def set(self) -> None:
        """Set the mark; nothing in a folder that takes no locks."""
        with contextlib.suppress(OSError):
            fcntl.fcntl(self._folder, fcntl.F_OFD_SETLK, self._range(fcntl.F_RDLCK, self._own, 1))

    def others_live(self) -> bool:
        """Return whether anybody, in this process too, has another file of this name open."""
        end = self._first + self._SIZE
        ranges = ((self._first, self._own), (self._own + 1, end))
        return any(first < last and self._taken(first, last - first) for first, last in ranges)

    def _taken(self, first: int, length: int) -> bool:
        asked = self._range(fcntl.F_WRLCK, first, length)
        try:
            answer = fcntl.fcntl(self._folder, fcntl.F_OFD_GETLK, asked)
        except OSError:
            return True  # a folder that takes no locks: rather wait one ttl than overlap
        return bool(struct.unpack_from("h", answer)[0] != fcntl.F_UNLCK)

    @classmethod
    def _hash(cls, text: str) -> int:
        digest = hashlib.blake2b(os.fsencode(text), digest_size=8).digest()
        return int.from_bytes(digest) % cls._SIZE

    @staticmethod
    def _range(kind: int, first: int, length: int) -> bytes:
        return struct.pack("hhqqi4x", kind, os.SEEK_SET, first, length, 0)
