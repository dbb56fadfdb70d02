"""Peer: what a program reads from another member's ``meta``, typed and bounded, here alone.

``meta`` is data from strangers. :mod:`hashring.protocol.strict_json` has bounded it as JSON; which
type a field has, nobody has said. Whoever wants a field asks here, or reads a whole announcement
(:mod:`hashring.telemetry.overlap`), which takes its texts from here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

__all__ = ["MAX_TEXT", "Peer", "is_text", "printable"]

MAX_TEXT = 1024
"""The most characters of a text that another agent publishes: an id, a host, a prefix."""


def is_text(value: object) -> bool:
    r"""Whether a field is a text that can be kept, compared and shown on a terminal.

    Example:
        >>> is_text("web1"), is_text(["web1"]), is_text("x" * 2000), is_text("a\x1b[2J")
        (True, False, False, False)
    """
    return isinstance(value, str) and len(value) <= MAX_TEXT and value.isprintable()


def printable(text: str) -> str:
    r"""Return a member's id as it may be shown: a store's ids are strangers' texts too.

    Example:
        >>> print(printable("web1"), printable("a\x1b[2J"))
        web1 'a\x1b[2J'
    """
    return text if text.isprintable() else repr(text)


@dataclasses.dataclass(frozen=True, slots=True)
class Peer:
    """What another agent says of itself.

    Attributes:
        host: its host's id; ``None`` where it names none, or none that can be one.
        accepted: it says in so many words that it was let in (see ``announcements.py``).
    """

    host: str | None = None
    accepted: bool = False

    @classmethod
    def of(cls, meta: Mapping[str, Any]) -> Peer:
        """Return what a record's ``meta`` says; a field of a wrong type counts as none.

        Example:
            >>> Peer.of({"host": ["web1"], "accepted": 1})
            Peer(host=None, accepted=False)
        """
        host = meta.get("host")
        return cls(host if is_text(host) else None, meta.get("accepted") is True)
