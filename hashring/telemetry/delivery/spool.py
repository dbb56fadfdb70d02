"""Spool: samples on disk between polling and publishing, in a bounded SQLite file of one process.

What must hold, and the line that keeps it:

* What :meth:`Spool.put` has taken outlives the process: it is one committed transaction. Commits
  are not synced to disk (``synchronous=NORMAL`` in WAL mode): the kernel has them once the call
  returns, so ``kill -9`` loses nothing, while a loss of power may lose the last ones and never
  harms the file. ``power_safe=True`` syncs each commit instead.
* What was taken is never dropped to make room: at the bound the newest are refused
  (:class:`SpoolFull`), and whoever put them knows.
* A sample is kept until each of its publishers has taken it. One poll's samples are one row, with a
  checksum: they are encoded once, and read back as columns. Rows that go to the same publishers
  form a *route*, in which each publisher has a *cursor*; what lies below the lowest cursor is
  deleted as a range. So several publishers cost no more rows than one. A cursor may stand within a
  row: a publisher takes no more samples at once than it is given.
* A file belongs to the process that holds the kernel's lock on the lock file beside it, and the
  kernel frees that lock when the process dies, however it dies. A spool whose lock is free is an
  orphan; who gets its lock delivers it, and nobody else does.

This module knows nothing of publishers but their URLs, and nothing of when they are called.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from hashring.errors import BadArgument
from hashring.telemetry.delivery.items import Item, batched
from hashring.telemetry.delivery.lock import broken, lock_orphan, remove_stale_locks
from hashring.telemetry.delivery.payload import decoded, encoded
from hashring.telemetry.delivery.spool_file import (
    Cursor,
    New,
    Row,
    SpoolFile,
    is_damage,
    journal_of,
    route_of,
    size_of,
)
from hashring.telemetry.errors import SpoolBroken, SpoolFull
from hashring.telemetry.model.batch import Batch
from hashring.telemetry.model.sample import Sample

__all__ = ["Item", "Parcel", "Spool", "SpoolBroken", "SpoolFull"]

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Parcel:
    """Samples for one publisher, in the order in which they were put.

    Attributes:
        url: the publisher.
        batches: at least one; the first and the last may be parts of what was put.
    """

    url: str
    batches: tuple[Batch, ...]
    _file: SpoolFile = dataclasses.field(repr=False)
    _ends: Mapping[int, Cursor] = dataclasses.field(repr=False)

    def __len__(self) -> int:
        return sum(map(len, self.batches))

    @property
    def samples(self) -> tuple[Sample, ...]:
        """The samples, an object each."""
        return tuple(sample for batch in self.batches for sample in batch)


class Spool:
    """Samples on disk until each of their publishers has taken them. From any thread.

    Makes a file of its own, with mode 0600 (URLs may hold secrets). Those of processes that died
    are taken over by :meth:`adopt`, its own former ones too.

    Args:
        folder: where spools lie; on a disk of this host; made if it is not there.
        max_bytes: the bound: bytes of samples, as they are kept, over all spools of this process.
        owner: whose it is, e.g. a member id: for people, in the file's name.
        power_safe: sync each commit to disk, so that a loss of power loses nothing either.

    Raises:
        BadArgument: max_bytes is not positive.
        SpoolBroken: the folder cannot be used.

    Example:
        >>> import tempfile
        >>> from hashring.telemetry.model.sample import Meter, MeterType, Sample
        >>> meter = Meter("hardware.cpu.util", MeterType.GAUGE, "%")
        >>> sample = Sample(meter, 1.5, "web1:host", 600.25, 10, 60.0, "a", ("v", "i", 10))
        >>> folder = tempfile.TemporaryDirectory()
        >>> spool = Spool(Path(folder.name), max_bytes=1_000_000)
        >>> spool.put([(sample, ("file:///tmp/a", "http://sink/"))])
        >>> parcel = spool.take("http://sink/", 50)
        >>> parcel.samples == (sample,)
        True
        >>> spool.done(parcel)
        >>> spool.waiting
        {'file:///tmp/a': 1}
        >>> spool.close()
        >>> folder.cleanup()
    """

    def __init__(
        self, folder: Path, *, max_bytes: int, owner: str = "", power_safe: bool = False
    ) -> None:
        if max_bytes < 1:
            raise BadArgument(f"a spool of {max_bytes} bytes holds nothing: give it more")
        self.folder = folder
        self.max_bytes = max_bytes
        self._owner = owner
        self._power_safe = power_safe
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._adopting = threading.Lock()
        self._adopted: list[SpoolFile] = []  # oldest first
        self._reported: set[str] = set()  # what was said of orphans that cannot be read
        self._decoded_last: tuple[tuple[Path, int] | None, Batch | None] = None, None
        self._closed = False
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise SpoolBroken(
                f"no spool can lie in {str(folder)!r}: {error.strerror or error}; "
                "name a folder that may be written to"
            ) from None
        self._own: SpoolFile | None = SpoolFile.create(folder, owner, power_safe)

    @property
    def bytes(self) -> int:
        """The bytes of samples in all spools that this process holds."""
        with self._lock:
            return self._bytes()

    @property
    def waiting(self) -> dict[str, int]:
        """How many samples wait for which publisher; publishers with none are left out."""
        found: Counter[str] = Counter()
        with self._lock:
            for file in self._files():
                found.update(file.waiting)
        return {url: count for url, count in found.items() if count}

    @property
    def waiting_by_file(self) -> dict[Path, dict[str, int]]:
        """How many samples wait for which publisher, by the file that this process holds."""
        with self._lock:
            return {
                file.path: {url: count for url, count in file.waiting.items() if count}
                for file in self._files()
            }

    def waiting_for(self, url: str) -> int:
        """Return how many samples wait for one publisher."""
        with self._lock:
            return sum(file.waiting[url] for file in self._files())

    def put(self, items: Sequence[Item]) -> None:
        """Keep samples, all or none: when it returns, they outlive this process.

        Args:
            items: samples or batches, each with the URLs of its publishers; with none, it is not
                kept. Samples that follow one another with the same publishers, time, window and
                token become one batch.

        Raises:
            SpoolFull: the bound would be passed.
            SpoolBroken: the disk is full, or the file is damaged; a damaged file is set aside, and
                the next call begins a new one.
            BadArgument: a sample cannot be written as JSON.
        """
        rows = [_row(batch, urls) for batch, urls in batched(items) if urls]
        count = sum(row.samples for row in rows)
        if not rows:
            return
        with self._lock:
            self._check_usable()
            held = self._bytes()
            size = self._size_of(rows)
            if held + size > self.max_bytes:
                raise SpoolFull(
                    f"the spool in {str(self.folder)!r} is full: {held} of {self.max_bytes} bytes "
                    f"wait for their publishers, and {size} more ({count} samples) are "
                    "refused; bring the sinks back, or raise the bound"
                )
            if self._own is None:
                self._own = SpoolFile.create(self.folder, self._owner, self._power_safe)
            with self._damage_set_aside(self._own):
                self._own.put(rows)

    def _size_of(self, rows: Sequence[New]) -> int:
        """Return by how much these rows would grow what is held."""
        new = {row.columns for row in rows if row.columns is not None}
        if self._own is not None:
            new = {columns for columns in new if not self._own.counts(columns)}
        return sum(len(row.payload) for row in rows) + sum(map(len, new))

    def take(self, url: str, limit: int) -> Parcel | None:
        """Return the oldest samples that wait for a publisher; they stay until :meth:`done`.

        One thread at a time takes for one publisher: two would be given the same samples.

        Args:
            url: the publisher.
            limit: at most so many.

        Returns:
            ``None`` where none waits.

        Raises:
            SpoolBroken: a file cannot be read; if it is damaged it is set aside, and the next
                call goes on with the others.
        """
        with self._lock:
            self._check_usable()
            for file in self._files():
                if file.waiting[url]:
                    with self._damage_set_aside(file):
                        rows, ends = file.take(url, limit)
                    break
            else:
                return None
        try:
            batches = tuple(self._batch(file, row) for row in rows)
        except (KeyError, TypeError, ValueError) as error:
            with self._lock:
                if not file.is_open:
                    return None
                raise self._set_aside(file, f"it holds what is not a sample: {error!r}") from None
        return Parcel(url, batches, file, ends)

    def _batch(self, file: SpoolFile, row: Row) -> Batch:
        """Return what a publisher is to take of a row."""
        with self._lock:
            key, batch = self._decoded_last
        if key != (file.path, row.id) or batch is None:
            batch = decoded(row.payload, row.columns)
        if row.start == 0 and row.stop == len(batch):
            return batch
        # The rest of it is taken next: the row need not be decoded again for each part.
        with self._lock:
            self._decoded_last = (file.path, row.id), batch
        return batch[row.start : row.stop]

    def done(self, parcel: Parcel) -> None:
        """Note that a publisher has taken a parcel; delete what every publisher has taken.

        Does nothing if the file of the parcel was closed or set aside meanwhile.

        Raises:
            SpoolBroken: as of :meth:`put`. Unless the file was damaged, the parcel is as it was.
        """
        with self._lock:
            file = parcel._file
            if file.is_open:
                with self._damage_set_aside(file):
                    file.advance(parcel.url, parcel._ends, len(parcel))
                self._remove_if_delivered(file)

    def drop(self, url: str) -> int:
        """Give up whatever waits for one publisher; return how many samples that was.

        Raises:
            SpoolBroken: as of :meth:`done`.
        """
        count = 0
        with self._lock:
            self._check_usable()
            for file in self._files():
                if waiting := file.waiting[url]:
                    with self._damage_set_aside(file):
                        file.advance(url, file.last(url), waiting)
                    self._remove_if_delivered(file)
                    count += waiting
        return count

    def adopt(self) -> int:
        """Take over the spools in the folder whose process has died, oldest first.

        An orphan that would take this process past its bound waits until there is room; one that
        is larger than the bound itself is adopted once this process holds nothing else. An orphan
        that cannot be read is reported once in the log, and set aside where it is damaged.

        Returns:
            How many were adopted that hold samples; empty ones are just removed.
        """
        count = 0
        with self._adopting:
            self._check_usable()
            for path in sorted(self.folder.glob("*.spool")):
                try:
                    count += self._adopt(path)
                except OSError as error:  # SpoolBroken is one
                    # Nobody called for this file, so there is no caller to tell.
                    if str(error) not in self._reported:
                        self._reported.add(str(error))
                        log.error("%s", error)  # noqa: TRY400 - a traceback says no more
            remove_stale_locks(self.folder)
        return count

    def _adopt(self, path: Path) -> bool:
        lock = lock_orphan(path)
        if lock is None:
            return False
        # The file is never much smaller than the samples in it; to look inside takes longer.
        size = path.stat().st_size + size_of(journal_of(path))
        held = self.bytes
        if held and held + size > self.max_bytes:
            os.close(lock)
            return False
        file = SpoolFile.adopt(path, lock, self._power_safe)
        with self._lock:
            if self._closed:
                file.close()
                return False
            self._adopted.append(file)
            self._adopted.sort(key=lambda file: file.path)
            waiting = max(file.waiting.values(), default=0)
            self._remove_if_delivered(file)
        if waiting:
            log.info("samples of a process that died wait in %s: adopted", path)
        return waiting > 0

    def close(self) -> None:
        """Let go of all files; what waits in them is for the next process. Idempotent."""
        with self._lock:
            self._closed = True
            for file in self._files():
                if file.bytes:
                    file.close()
                else:
                    file.remove()
            self._own, self._adopted = None, []

    def _files(self) -> list[SpoolFile]:
        return [*self._adopted, *([] if self._own is None else [self._own])]

    def _bytes(self) -> int:
        return sum(file.bytes for file in self._files())

    def _check_usable(self) -> None:
        if self._closed:
            raise SpoolBroken(f"the spool in {str(self.folder)!r} is closed")
        if self._pid != os.getpid():
            raise SpoolBroken(
                f"the spool in {str(self.folder)!r} was opened by process {self._pid}: "
                "open another one after a fork"
            )

    def _remove_if_delivered(self, file: SpoolFile) -> None:
        if file in self._adopted and not file.bytes:
            self._adopted.remove(file)
            file.remove()

    @contextlib.contextmanager
    def _damage_set_aside(self, file: SpoolFile) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if is_damage(error):
                raise self._set_aside(file, str(error)) from None
            raise broken(file.path, error) from None

    def _set_aside(self, file: SpoolFile, why: str) -> SpoolBroken:
        if file is self._own:
            self._own = None
        elif file in self._adopted:
            self._adopted.remove(file)
        return file.set_aside(why)


def _row(batch: Batch, urls: tuple[str, ...]) -> New:
    payload, columns = encoded(batch)
    return New(route_of(urls), payload, len(batch), columns)
