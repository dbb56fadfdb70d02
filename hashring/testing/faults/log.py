"""The file that each process of a run writes, a line of JSON an event; and how it is read back."""

from __future__ import annotations

import base64
import json
import os
import threading
import zlib
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from hashring.clock import boottime
from hashring.ring.ring import SlotSet

__all__ = ["Log", "key_names", "lines_of"]


def key_names(count: int) -> list[str]:
    """Return the keys of a run.

    >>> key_names(2)
    ['key-00000', 'key-00001']
    """
    return [f"key-{number:05}" for number in range(count)]


class Log:
    """One process's own file: a line of JSON a call, appended by one write of the kernel.

    What was written stays, however the process ends.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with Log(Path(folder, "a.jsonl"), clock=lambda: 1.5) as log:
    ...         log.write("state", state="settled")
    ...     print(Path(folder, "a.jsonl").read_text(), end="")
    {"e":"state","t":1.5,"state":"settled"}
    """

    def __init__(self, path: Path, *, clock: Any = boottime) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._clock = clock
        self._sets: dict[SlotSet, int] = {}
        self._lock = threading.Lock()

    def write(self, event: str, /, *, t: float | None = None, **fields: object) -> None:
        """Append one event, at the moment ``t`` or now."""
        line = {"e": event, "t": self._clock() if t is None else t, **fields}
        os.write(self._file, json.dumps(line, separators=(",", ":")).encode() + b"\n")

    def set_id(self, slots: SlotSet) -> int:
        """Return the number under which this file knows a set; write the set at its first use."""
        # The lock: no thread may use a number before the line that explains it is written.
        with self._lock:
            number = self._sets.get(slots)
            if number is None:
                number = self._sets[slots] = len(self._sets)
                packed = base64.b64encode(zlib.compress(slots.tobytes(), 1)).decode()
                self.write("set", id=number, slots=packed)
            return number

    def close(self) -> None:
        """Close the file. Idempotent."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1  # the number may soon be another file's

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def lines_of(path: Path) -> list[Mapping[str, Any]]:
    """Return the lines of a file that may still be written, or whose writer was killed.

    Raises:
        ValueError: a line in the middle is not JSON.
    """
    text = path.read_text()
    lines = text.split("\n")
    found: list[Mapping[str, Any]] = []
    # A process that was killed while it wrote leaves half a line, which ends no line.
    for number, line in enumerate(lines[:-1], start=1):
        try:
            found.append(json.loads(line))
        except ValueError as error:
            raise ValueError(f"{path}:{number}: no line of a log: {error}") from error
    return found
