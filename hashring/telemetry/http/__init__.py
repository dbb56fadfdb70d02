"""HTTP, as every part of an agent speaks it: exchanges that end, and whose answers are bounded.

::

    rules       what holds for each request: who asks, headers, authorities, words of errors
    inflating   an answer's body, decompressed in small pieces
    blocking    Client: for threads, on urllib3: what publishers and alarms use
    address     where a URL leads to, and the bytes of a request
    connection  one connection on an event loop: asks, and reads answers as they come
    looped      LoopClient: for one event loop: what polls use
    late        looked for when an agent starts, imported when something is to be asked
    threads     a few daemon threads for what a loop must not wait for

No redirect is followed here, no cookie is kept, ``.netrc`` is not read, nothing is sent twice; a
user and password in a URL are sent as basic authentication, in UTF-8. Nothing here knows what is
asked or sent. ``looped`` is imported through ``late``, by whoever asks: publishers need no
httptools.
"""

from hashring.telemetry.http.blocking import FAILURES, Answer, Client, silence_unchecked
from hashring.telemetry.http.rules import (
    ENCODINGS,
    basic_authentication,
    is_timeout,
    merged,
    reason_of,
    retry_after,
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
    "retry_after",
    "silence_unchecked",
]
