"""DoneWindows: which window of a group was worked whole, kept on disk for whoever joins next.

A group whose last member has left remembers nothing: the agent that comes next, which on most hosts
is the same one after a restart, would poll the present window again. This module knows numbers of
windows and a folder; not what a window is, nor who may say that it is done.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import threading
from pathlib import Path

__all__ = ["DoneWindows"]

log = logging.getLogger(__name__)


class DoneWindows:
    """The newest window of each group and interval that was worked whole. For several threads.

    Args:
        folder: is made when there is something to note; agents of one host may share it.

    Example:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> done = DoneWindows(Path(folder.name) / "windows")
        >>> done.newest("discovery:host@web1", 60.0) is None
        True
        >>> done.note("discovery:host@web1", 60.0, 29000000)
        >>> DoneWindows(Path(folder.name) / "windows").newest("discovery:host@web1", 60.0)
        29000000
        >>> folder.cleanup()
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._failed = False

    def newest(self, group: str, interval: float) -> int | None:
        """Return the number of the newest window that is noted, or ``None``."""
        try:
            found = json.loads(self._file(group, interval).read_text())["window"]
        except (OSError, ValueError, TypeError, KeyError):
            return None
        return found if isinstance(found, int) else None

    def note(self, group: str, interval: float, window: int) -> None:
        """Keep a window's number. Where that fails it is logged once: the cost is a repeat."""
        file = self._file(group, interval)
        fresh = file.with_suffix(f".{os.getpid()}")
        with self._lock:
            try:
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                text = json.dumps({"group": group, "interval": interval, "window": window})
                fresh.write_text(text)
                fresh.replace(file)
            except OSError as error:
                with contextlib.suppress(OSError):
                    fresh.unlink()
                if not self._failed:
                    log.warning(
                        "cannot note in %s which windows are done (%s): an agent that is alone "
                        "and is restarted within one will poll it again",
                        self._folder,
                        error.strerror or error,
                    )
                self._failed = True

    def _file(self, group: str, interval: float) -> Path:
        digest = hashlib.sha256(f"{interval!r} {group}".encode()).hexdigest()[:32]
        return self._folder / f"{digest}.json"
