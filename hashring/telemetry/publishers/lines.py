"""Samples as JSON lines, to a file or the standard output.

Several processes may write to one file or pipe: every write is of whole lines. This room knows
samples and where they go, not how they came to be.
"""

from __future__ import annotations

import abc
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from hashring.telemetry.publishers.base import OutputClosed, OutputFailed, Publisher, SinkURL
from hashring.telemetry.sample import Sample
from hashring.telemetry.settings import Settings

__all__ = ["FilePublisher", "StdoutPublisher"]

_PIPE_BUF = 512
"""What POSIX guarantees to be written to a pipe in one piece; Linux has 4096 (see pipe(7))."""


class _LinePublisher(Publisher):
    """Writes JSON lines to a file descriptor in pieces that no other process can cut in two."""

    def __init__(self, url: str, settings: Settings) -> None:
        super().__init__(url, settings)
        self._name, self._descriptor = self._open(SinkURL.parse_path(url, self.options))
        # To a regular file opened for appending one write is one piece, however long. To a pipe
        # it is only up to PIPE_BUF; to what else there is, nothing is promised or needed.
        regular = stat.S_ISREG(os.fstat(self._descriptor).st_mode)
        self._piece = 1 << 20 if regular else _pipe_buffer(self._descriptor)
        self._torn = False

    @abc.abstractmethod
    def _open(self, url: SinkURL) -> tuple[str, int]:
        """Return the sink's name for messages, and an open descriptor."""

    def publish(self, samples: Sequence[Sample]) -> None:
        for piece in self._pieces(samples):
            self._write(piece)

    def _pieces(self, samples: Sequence[Sample]) -> Iterator[bytes]:
        lines: list[bytes] = []
        size = 0
        for sample in samples:
            line = sample.to_line()
            if lines and size + len(line) > self._piece:
                yield b"".join(lines)
                lines, size = [], 0
            lines.append(line)
            size += len(line)
        if lines:
            yield b"".join(lines)

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
    """Appends JSON lines to a file, which is made if it is not there."""

    def _open(self, url: SinkURL) -> tuple[str, int]:
        path = Path(url.path)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        try:
            return str(path), os.open(path, flags, 0o644)
        except OSError as error:
            raise OutputFailed(
                f"cannot write to {str(path)!r}: {error.strerror or error}; "
                "name a file in a folder that exists and may be written to"
            ) from None

    def close(self) -> None:
        """Close the file."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


class StdoutPublisher(_LinePublisher):
    """Writes JSON lines to the standard output."""

    def _open(self, url: SinkURL) -> tuple[str, int]:
        try:
            os.fstat(1)
        except OSError:
            raise OutputFailed(
                "cannot write to the standard output: it is closed; use file:///PATH"
            ) from None
        return "the standard output", 1

    def close(self) -> None:
        """Do nothing: the standard output is not ours to close."""


def _pipe_buffer(descriptor: int) -> int:
    try:
        return os.fpathconf(descriptor, "PC_PIPE_BUF")
    except (OSError, ValueError):
        return _PIPE_BUF
