"""The event loop that polls wait on: uvloop's where it is installed, else asyncio's own.

uvloop is written in C: to open a connection, ask and read takes it half of asyncio's time
(``docs/agents/costs.md``). Nothing else depends on which of them turns.
"""

from __future__ import annotations

import asyncio

try:
    import uvloop as _uvloop
except ImportError:
    _uvloop = None  # type: ignore[assignment]

__all__ = ["new_loop"]


def new_loop() -> asyncio.AbstractEventLoop:
    """Return a loop that nobody turns yet."""
    return asyncio.new_event_loop() if _uvloop is None else _uvloop.new_event_loop()
