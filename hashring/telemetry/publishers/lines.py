"""Samples as JSON lines, to a file or the standard output.

Several processes may write to one file or pipe: every write is of whole lines. This module knows
samples and where they go, not how they came to be.
"""

from __future__ import annotations

import abc
import contextlib
import fcntl
import itertools
import logging
import os
import stat
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

from hashring import clock
from hashring.errors import BadURL
from hashring.telemetry.errors import OutputClosed, OutputFailed, SinkUnusable
from hashring.telemetry.model.batch import Batch, batches_of
from hashring.telemetry.model.sample import Sample
from hashring.telemetry.model.settings import Settings
from hashring.telemetry.plugin import Option, Publisher, SinkURL, count, flag, unopened

__all__ = ["FilePublisher", "StdoutPublisher"]

log = logging.getLogger(__name__)

_LOCK_TIMEOUT = 5.0
"""Seconds to wait for the lock on a file. Whoever holds it is writing, which takes milliseconds."""

_LOCK_PAUSE = 0.002
"""Seconds between two looks at that lock: a flock() that blocks could not be given a timeout."""

_PIPE_BUF = 512
"""What POSIX guarantees to be written to a pipe in one piece; Linux has 4096 (see pipe(7))."""


def _json(text: str) -> bool:
    if not flag(text):
        raise ValueError("there is no other format")
    return True


class _LinePublisher(Publisher):
    """Writes JSON lines to a file descriptor in pieces that no other process can cut in two."""

    def __init__(self, url: str, settings: Settings) -> None:
        super().__init__(url, settings)
        self._name, self._descriptor = self._open(SinkURL.parse_path(url, self.options))
        self._piece = self._piece_size()
        self._torn = False

    @abc.abstractmethod
    def _open(self, url: SinkURL) -> tuple[str, int]:
        """Return the sink's name for messages, and an open descriptor."""

    def _piece_size(self) -> int:
        """Return how many bytes are written at once, unless one line alone is longer."""
        # To a regular file opened for appending one write is one piece, however long. To a pipe
        # it is only up to PIPE_BUF; to what else there is, nothing is promised or needed.
        return 1 << 20 if _is_regular(self._descriptor) else _pipe_buffer(self._descriptor)

    def publish(self, samples: Sequence[Sample]) -> None:
        self.publish_batches(batches_of(samples))

    def publish_batches(self, batches: Sequence[Batch]) -> None:
        for piece in self._pieces(batches):
            self._write(piece)

    def _pieces(self, batches: Sequence[Batch]) -> Iterator[bytes]:
        """Yield whole lines, as many as go into one write."""
        waiting: list[bytes] = []
        size = 0
        for batch in batches:
            for lines in _cut(batch.lines(), self._piece):
                if waiting and size + len(lines) > self._piece:
                    yield b"".join(waiting)
                    waiting, size = [], 0
                waiting.append(lines)
                size += len(lines)
        if waiting:
            yield b"".join(waiting)

    def _write(self, piece: bytes) -> None:
        if self._torn:
            # The last write ended within a line: what follows must not be taken for its end.
            piece = b"\n" + piece
        try:
            written = os.write(self._descriptor, piece)
        except BrokenPipeError:
            raise OutputClosed(f"{self._name} was closed by its reader") from None
        except OSError as error:
            raise OutputFailed(f"cannot write to {self._name}: {error.strerror or error}") from None
        if written < len(piece):
            self._torn = piece[written - 1 : written] != b"\n"
            raise OutputFailed(f"cannot write all to {self._name}: the disk may be full")
        self._torn = False


class FilePublisher(_LinePublisher):
    """Appends JSON lines to a file, which is made if it is not there, and rotates it.

    Several processes may write to one file. Each piece is written under a lock on the file, after
    a look at whether the path still leads to it: another process, or logrotate, may have renamed
    it. So a piece is written whole or not at all, no line is lost, and every rotation is one
    process's. (``logging.handlers.RotatingFileHandler`` does neither: its processes go on writing
    to a file that another has renamed, and then rotate once each, which throws files away.)

    Rotation is on where ``max_bytes`` and ``backup_count`` are both more than 0, as in
    Ceilometer: ``samples.jsonl`` becomes ``samples.jsonl.1``, that becomes ``.2``, and what was
    ``.backup_count`` is dropped.
    """

    options: ClassVar[tuple[Option, ...]] = (
        Option("max_bytes", count, 0, "bytes beyond which the file is rotated; 0: it never is"),
        Option("backup_count", count, 0, "how many rotated files are kept; 0: it never rotates"),
        Option("json", _json, True, "for Ceilometer's spelling: the lines are JSON in any case"),
    )

    def _open(self, url: SinkURL) -> tuple[str, int]:
        if not url.path:
            raise BadURL(f"{url.shown!r} names no file: write file:///var/log/samples.jsonl")
        self._path = Path(url.path)
        self._max_bytes, self._backups = url.options["max_bytes"], url.options["backup_count"]
        if bool(self._max_bytes) != bool(self._backups):
            log.warning("%s: rotation needs max_bytes and backup_count: it is off", self.url)
            self._max_bytes = 0
        self._is_new = not os.path.lexists(self._path)
        descriptor = self._open_path()
        self._regular = _is_regular(descriptor)
        if self._regular:
            # A link stays a link to the file that is written now.
            self._path = self._path.resolve()
        return url.path, descriptor

    def _open_path(self) -> int:
        flags = os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        # What a killed process left half written can only be seen by reading; a pipe has no such.
        special = self._path.exists() and not self._path.is_file()
        flags |= os.O_WRONLY if special else os.O_RDWR
        try:
            return os.open(self._path, flags, 0o644)
        except OSError as error:
            raise unopened(
                f"cannot write to {str(self._path)!r}: {error.strerror or error}; "
                "name a file in a folder that exists and may be written to",
                error,
            ) from None

    def _piece_size(self) -> int:
        size = super()._piece_size()
        return min(size, self._max_bytes) if self._regular and self._max_bytes else size

    def _write(self, piece: bytes) -> None:
        if not self._regular:
            super()._write(piece)
            return
        deadline = clock.boottime() + _LOCK_TIMEOUT
        try:
            while True:
                self._lock(deadline)
                try:
                    if self._was_renamed():
                        self._reopen()
                    elif self._is_full(len(piece)):
                        self._rotate()
                    else:
                        self._append(piece)
                        return
                finally:
                    fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        except OutputFailed:
            raise
        except OSError as error:
            raise OutputFailed(
                f"cannot write to {self._name!r}: {error.strerror or error}"
            ) from None

    def _lock(self, deadline: float) -> None:
        while True:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if clock.boottime() >= deadline:
                    raise OutputFailed(
                        f"cannot write to {self._name!r}: another process has held its lock for "
                        f"{_LOCK_TIMEOUT:g} s (is it stopped?)"
                    ) from None
                time.sleep(_LOCK_PAUSE)
            else:
                return

    def _was_renamed(self) -> bool:
        mine = os.fstat(self._descriptor)
        try:
            there = self._path.stat()
        except FileNotFoundError:
            return True
        return (mine.st_dev, mine.st_ino) != (there.st_dev, there.st_ino)

    def _is_full(self, more: int) -> bool:
        size = os.fstat(self._descriptor).st_size
        return bool(self._max_bytes and size and size + more > self._max_bytes)

    def _rotate(self) -> None:
        # The file in hand is locked until it has been renamed, which comes last: whoever opens
        # the path anew has a file of its own to lock, and nothing of this rotation is left.
        rotated = (Path(f"{self._path}.{n}") for n in range(1, self._backups + 1))
        names = [self._path]
        for path in rotated:
            names.append(path)
            if not path.exists():
                break  # those beyond need not move: a process was killed within a rotation
        for newer, older in reversed(list(itertools.pairwise(names))):
            newer.replace(older)
        self._reopen()

    def _reopen(self) -> None:
        opened = self._open_path()
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        os.close(self._descriptor)
        self._descriptor = opened

    def _append(self, piece: bytes) -> None:
        size = os.fstat(self._descriptor).st_size
        # A process that was killed within a write left half a line: keep it apart from ours.
        if size and os.pread(self._descriptor, 1, size - 1) != b"\n":
            piece = b"\n" + piece
        written = os.write(self._descriptor, piece)
        if written < len(piece):
            # All or nothing, unless somebody has written after us who takes no lock.
            if os.fstat(self._descriptor).st_size == size + written:
                os.ftruncate(self._descriptor, size)
            raise OutputFailed(f"cannot write all to {self._name!r}: the disk may be full")

    def close(self) -> None:
        """Close the file."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def release(self) -> None:
        """Close the file, and remove it if it was made for this and nothing was written."""
        is_empty = self._is_new and os.fstat(self._descriptor).st_size == 0
        self.close()
        if is_empty:
            with contextlib.suppress(OSError):
                self._path.unlink()


class StdoutPublisher(_LinePublisher):
    """Writes JSON lines to the standard output."""

    def _open(self, url: SinkURL) -> tuple[str, int]:
        try:
            os.fstat(1)
        except OSError:
            raise SinkUnusable(
                "cannot write to the standard output: it is closed; use file:///PATH"
            ) from None
        return "the standard output", 1

    def close(self) -> None:
        """Do nothing: the standard output is not ours to close."""


def _is_regular(descriptor: int) -> bool:
    return stat.S_ISREG(os.fstat(descriptor).st_mode)


def _pipe_buffer(descriptor: int) -> int:
    try:
        return os.fpathconf(descriptor, "PC_PIPE_BUF")
    except (OSError, ValueError):
        return _PIPE_BUF


def _cut(lines: bytes, most: int) -> Iterator[bytes]:
    """Yield lines in parts of so many bytes at most; one that is longer alone."""
    start = 0
    while len(lines) - start > most:
        end = lines.rfind(b"\n", start, start + most) + 1
        if not end:
            end = lines.index(b"\n", start) + 1
        yield lines[start:end]
        start = end
    if start < len(lines):
        yield lines[start:]
