"""DaemonThreads: an executor for what an event loop must not wait for, and an exit neither.

The standard library's executor lets a process wait at its end for every call that hangs, a look-up
of a name say. The threads of this one end with the process.
"""

from __future__ import annotations

import concurrent.futures
import queue
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

__all__ = ["DaemonThreads"]

P = ParamSpec("P")
T = TypeVar("T")


class DaemonThreads(concurrent.futures.ThreadPoolExecutor):
    """At most so many threads, begun as they are needed.

    It is a ``ThreadPoolExecutor`` in name: an event loop takes no other one for its default.

    Args:
        most: calls that run at once; further ones wait.
        name: of the threads.

    Example:
        >>> threads = DaemonThreads(2, "doc")
        >>> threads.submit(max, 3, 7).result()
        7
        >>> threads.shutdown()
    """

    def __init__(self, most: int, name: str) -> None:
        super().__init__(most, name)
        self._most = most
        self._name = name
        self._changing = threading.Lock()
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._begun: list[threading.Thread] = []
        self._unfinished = 0  # calls that wait or run
        self._closed = False

    def submit(
        self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> concurrent.futures.Future[T]:
        """Have a function called: see :class:`concurrent.futures.Executor`.

        Raises:
            RuntimeError: it has been shut down.
        """
        future: concurrent.futures.Future[T] = concurrent.futures.Future()

        def call() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)

        with self._changing:
            if self._closed:
                raise RuntimeError(f"the threads {self._name} have been ended")
            self._unfinished += 1
            if self._unfinished > len(self._begun) and len(self._begun) < self._most:
                thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._begun.append(thread)
                thread.start()
            self._calls.put(call)
        return future

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            call()
            with self._changing:
                self._unfinished -= 1
            del call

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the threads once the calls that wait are made; one that hangs ends when that does.

        Args:
            wait: wait for them.
            cancel_futures: do not make the calls that no thread has begun.
        """
        with self._changing:
            self._closed = True
            threads, self._begun = self._begun, []
        if cancel_futures:
            while not self._calls.empty():
                self._calls.get_nowait()
        for _ in threads:
            self._calls.put(None)
        if wait:
            for thread in threads:
                thread.join()
