"""Open drivers, and close each when the test that opened it ends."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from hashring.driver import Driver, load

Opened = Callable[..., Driver]
"""Makes an open driver of a URL and, where it is not the usual one, a lease time ``ttl``."""


@contextlib.contextmanager
def opening(ttl: float, *, timeout: float | None = None) -> Iterator[Opened]:
    """Give a function that opens a driver on a URL; close all that it opened in the end.

    Args:
        ttl: the lease time of those that are opened without one, in seconds.
        timeout: seconds of a call where the URL names none. A busy machine may need more for a call
            than the third of a short lease, which is a driver's own default.
    """
    with contextlib.ExitStack() as closing:

        def opened(url: str, ttl: float = ttl) -> Driver:
            if timeout is not None and "timeout=" not in url:
                url += f"{'&' if '?' in url else '?'}timeout={timeout:g}"
            driver = load(url, ttl=ttl)
            closing.callback(driver.close)
            driver.open()
            return driver

        yield opened
