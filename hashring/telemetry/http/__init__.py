"""HTTP, as every part of an agent speaks it: exchanges that end, and whose answers are bounded.

::

    rules     what holds for each request: who asks, headers, proxies, authorities, words of errors
    inflating an answer's body, decompressed in small pieces
    blocking  Client: for threads, on urllib3: what publishers and alarms use
    looped    LoopClient: for one event loop, on aiohttp: what polls use
    late      looked for when an agent starts, imported when something is to be asked
    threads   a few daemon threads for what a loop must not wait for

No redirect is followed here, no cookie is kept, ``.netrc`` is not read, nothing is sent twice; a
user and password in a URL are sent as basic authentication, in UTF-8. Nothing here knows what is
asked or sent. ``looped`` is imported through ``late``, by whoever asks: publishers need no aiohttp.
"""

from hashring.telemetry.http.blocking import FAILURES, Answer, Client, silence_unchecked
from hashring.telemetry.http.rules import (
    ENCODINGS,
    basic_authentication,
    is_timeout,
    merged,
    reason_of,
)

__all__ = [
    "ENCODINGS",
    "FAILURES",
    "Answer",
    "Client",
    "basic_authentication",
    "is_timeout",
    "merged",
    "reason_of",
    "silence_unchecked",
]
