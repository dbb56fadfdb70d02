"""Inflater: an answer's body as it arrives, decompressed in small pieces.

However much a body inflates to, no more than one piece of it is in memory: who adds them up can
stop at any one. (The decoders of HTTP libraries inflate all of what has arrived at once.)
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from hashring.telemetry.errors import BadEncoding

__all__ = ["ENCODINGS", "PIECE", "Inflater"]

ENCODINGS = "gzip, deflate"
"""What an answer may be compressed with: said in ``Accept-Encoding``."""

PIECE = 64 * 1024
"""Bytes that are read, or inflated to, at once."""

_BITS = {
    "": None,
    "identity": None,
    "gzip": 16 + zlib.MAX_WBITS,
    "x-gzip": 16 + zlib.MAX_WBITS,
    "deflate": zlib.MAX_WBITS,
}

_GZIP = b"\x1f\x8b"
"""What a gzip file begins with."""


class Inflater:
    """Decompresses one body.

    Args:
        encoding: as ``Content-Encoding`` says.

    Raises:
        BadEncoding: it is something else than :data:`ENCODINGS`.

    Example:
        >>> import gzip
        >>> inflater = Inflater("gzip")
        >>> data = gzip.compress(b"hello")
        >>> b"".join([*inflater.feed(data[:9]), *inflater.feed(data[9:]), *inflater.finish()])
        b'hello'
    """

    def __init__(self, encoding: str) -> None:
        known = encoding.strip().lower()
        if known not in _BITS:
            raise BadEncoding(f"it is compressed by {known!r:.40}; {ENCODINGS} are understood")
        self._bits = _BITS[known]
        self._inflate = None if self._bits is None else zlib.decompressobj(self._bits)
        self._is_first = True  # nothing has been inflated yet
        self._is_over = False  # what follows is noise
        self._held = b""  # the first byte of what may be another gzip file

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Iterate over what a piece that has arrived inflates to, at most 64 KiB at a time.

        Raises:
            BadEncoding: it is damaged.
        """
        if self._inflate is None:
            if data:
                yield data
            return
        data, self._held = self._held + data, b""
        while data and not self._is_over:
            if self._inflate.eof and not self._begin_another(data):
                return
            try:
                found = self._inflate.decompress(data, PIECE)
            except zlib.error as error:
                if not self._is_first or self._bits != zlib.MAX_WBITS:
                    raise BadEncoding(f"its compression is damaged: {error}") from None
                self._bits = -zlib.MAX_WBITS  # some servers send deflate without its frame
                self._inflate = zlib.decompressobj(self._bits)
                continue
            self._is_first = False
            if found:
                yield found
            data = self._inflate.unused_data if self._inflate.eof else self._inflate.unconsumed_tail

    def _begin_another(self, data: bytes) -> bool:
        """A gzip file may be several, one after the other; whatever else follows is noise."""
        assert self._bits is not None
        if len(data) < len(_GZIP) and _GZIP.startswith(data):
            self._held = data
            return False
        if not data.startswith(_GZIP):
            self._is_over = True
            return False
        self._inflate = zlib.decompressobj(self._bits)
        return True

    def finish(self) -> Iterator[bytes]:
        """Iterate over what did not fit into the last piece, once all has arrived.

        Raises:
            BadEncoding: the body is cut off.
        """
        while self._inflate is not None and not (self._is_first or self._inflate.eof):
            found = self._inflate.decompress(b"", PIECE)
            if not found:
                raise BadEncoding("its compression is cut off")
            yield found
