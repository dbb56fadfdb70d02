"""The embedded store for a run of faults: a disk that fills up, files that nobody may write."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import sqlite3
import struct
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path

from hashring.testing.faults.store import Fault, Store

__all__ = ["SQLiteStore"]


class SQLiteStore(Store):
    """The embedded store, on a small disk of its own where this machine lets us mount one.

    The disk can then be filled. Where root may mark files as immutable, it can become read-only
    under the feet of those that have it open.
    """

    name = "sqlite"
    _IMMUTABLE = 0x10
    _GET_FLAGS, _SET_FLAGS = 0x80086601, 0x40086602  # FS_IOC_GETFLAGS, FS_IOC_SETFLAGS

    def __init__(self, *, options: str = "timeout=1&connect_timeout=1") -> None:
        self._options = options
        self._folder = Path(tempfile.mkdtemp(prefix="hashring-faults-"))
        self._disk = self._folder / "disk"
        self._mounted = False
        self._missing: dict[str, str] = {}
        self._lock: sqlite3.Connection | None = None
        self._slow: threading.Thread | None = None
        self._quick = threading.Event()

    @property
    def path(self) -> Path:
        """The database."""
        return self._disk / "group.db"

    @property
    def url(self) -> str:
        """See :attr:`Store.url`."""
        return f"sqlite://{self.path}?{self._options}"

    def start(self) -> None:
        """See :meth:`Store.start`."""
        self._disk.mkdir()
        image = self._folder / "image"
        with image.open("wb") as file:
            file.truncate(16 << 20)
        try:
            # No blocks kept back for root, who may be the one to meet the full disk.
            _call("mkfs.ext4", "-q", "-m", "0", str(image))
            _call("mount", "-o", "loop", str(image), str(self._disk))
            self._mounted = True
        except OSError as error:
            self._missing["disk full"] = f"no disk of its own: {error}"
        probe = self._disk / "probe"
        probe.touch()
        try:
            self._make_immutable(probe, immutable=True)
            self._make_immutable(probe, immutable=False)
        except OSError as error:
            self._missing["disk read-only"] = f"no immutable files: {error.strerror}"
        probe.unlink()

    def stop(self) -> None:
        """See :meth:`Store.stop`."""
        self._unlock()
        self._be_quick()
        if self._disk.exists() and "disk read-only" not in self._missing:
            self._write_again()
        if self._mounted:
            _call("umount", "--lazy", str(self._disk))
            self._mounted = False
        shutil.rmtree(self._folder, ignore_errors=True)

    def missing(self) -> Mapping[str, str]:
        """See :meth:`Store.missing`."""
        return dict(self._missing)

    def faults(self) -> Mapping[str, Fault]:
        """See :meth:`Store.faults`."""
        found = {
            "store locked": Fault(self._lock_out, self._unlock, (0.5, 6.0)),
            "store slow": Fault(self._be_slow, self._be_quick, (1.0, 6.0)),
            "store removed": Fault(self._remove),
            "disk full": Fault(self._fill, self._empty, (1.0, 6.0)),
            "disk read-only": Fault(self._write_no_more, self._write_again, (1.0, 6.0)),
            **self.back_in_time(),
        }
        return {name: fault for name, fault in found.items() if name not in self._missing}

    def _lock_out(self) -> None:
        """Keep the lock that every writer needs."""
        self._lock = sqlite3.connect(
            self.path, timeout=5, isolation_level=None, check_same_thread=False
        )
        self._lock.execute("BEGIN IMMEDIATE")

    def _unlock(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _be_slow(self) -> None:
        self._quick.clear()
        self._slow = threading.Thread(target=self._hog, name="slow store", daemon=True)
        self._slow.start()

    def _hog(self) -> None:
        """Keep the lock for most of the time."""
        with contextlib.closing(
            sqlite3.connect(self.path, timeout=5, isolation_level=None)
        ) as connection:
            while not self._quick.wait(0.02):
                with contextlib.suppress(sqlite3.OperationalError):
                    connection.execute("BEGIN IMMEDIATE")
                    self._quick.wait(0.1)
                    connection.execute("ROLLBACK")

    def _be_quick(self) -> None:
        self._quick.set()
        if self._slow is not None:
            self._slow.join()
            self._slow = None

    def _remove(self) -> None:
        """Take the file away, as somebody who tidies up: the store forgets."""
        for path in self._files():
            path.unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        return [self.path, *(self.path.with_name(self.path.name + end) for end in ("-wal", "-shm"))]

    def _fill(self) -> None:
        with (self._disk / "filler").open("wb", buffering=0) as file:
            for size in (1 << 16, 1 << 12, 1):
                try:
                    while True:
                        file.write(bytes(size))
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise

    def _empty(self) -> None:
        (self._disk / "filler").unlink(missing_ok=True)

    def _write_no_more(self) -> None:
        # Not the -shm file, which SQLite maps into memory: the kernel would kill whoever writes
        # to a page of it (SIGBUS).
        for path in self._files()[:2]:
            with contextlib.suppress(FileNotFoundError):
                self._make_immutable(path, immutable=True)

    def _write_again(self) -> None:
        for path in self._files():
            with contextlib.suppress(FileNotFoundError):
                self._make_immutable(path, immutable=False)

    def _make_immutable(self, path: Path, *, immutable: bool) -> None:
        """Have the file system refuse every write, also to those that have the file open."""
        with path.open("rb") as file:
            (flags,) = struct.unpack("l", fcntl.ioctl(file, self._GET_FLAGS, struct.pack("l", 0)))
            flags = flags | self._IMMUTABLE if immutable else flags & ~self._IMMUTABLE
            fcntl.ioctl(file, self._SET_FLAGS, struct.pack("l", flags))


def _call(*command: str) -> None:
    """Run a tool of the system; ``OSError`` where it is missing or fails."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
    program = shutil.which(command[0], path=path)
    if program is None:
        raise OSError(f"there is no {command[0]}")
    done = subprocess.run(  # noqa: S603 - our own command
        [program, *command[1:]], capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode:
        raise OSError(f"{command[0]}: {done.stderr.strip() or done.returncode}")
