"""What an operator asks of a member, and what the member answers: two small parts of records.

A request travels in a record of its own, under a lease of its own: a member of weight 0 that holds
nothing and is in no view. So it works with every store, and it is gone with whoever asked. Pure
values; what stands in them is data from strangers, so every field is checked and bounded. One that
does not hold what is asked of it is ignored, and harms nobody.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

__all__ = [
    "ACCEPTED",
    "DRAIN",
    "EVICT",
    "FREEZE",
    "REFUSED",
    "THAW",
    "Answer",
    "Request",
    "is_plain",
    "printable",
]

DRAIN, EVICT = "drain", "evict"

FREEZE, THAW = "freeze", "thaw"
"""These ask the whole group; what they say stands in the same record (`freezing.py`)."""

ACCEPTED, REFUSED = "accepted", "refused"

_KINDS = (DRAIN, EVICT, FREEZE, THAW)

_MAX_TEXT = 200
"""Characters: the longest name of an operator, id of a request, or reason."""

_MAX_ID = 4096


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """What an operator asks of one member.

    Attributes:
        what: ``"drain"``: leave with hand-over. ``"evict"``: hold nothing from now on, and leave.
            ``"freeze"``, ``"thaw"``: see `freezing.py`.
        id: names this request.
        by: who asks, by their own word; it goes into the log.
        member: the id of the member that is asked; ``"*"`` where all are.
        incarnation: the one that is asked: a request is never for whoever comes later.
    """

    what: str
    id: str
    by: str
    member: str
    incarnation: str

    def to_fields(self) -> dict[str, str]:
        """Return what stands in the record."""
        return dataclasses.asdict(self)

    @classmethod
    def from_fields(cls, found: object) -> Request | None:
        """Return the request that stands in a record; ``None`` where there is no valid one.

        >>> Request.from_fields({"what": "drain", "id": "1", "by": "alice", "member": "web1",
        ...                      "incarnation": "x"}).by
        'alice'
        >>> Request.from_fields({"what": "reboot"}) is None
        True
        """
        if not isinstance(found, dict) or found.get("what") not in _KINDS:
            return None
        texts = _texts(found, {"id": _MAX_TEXT, "by": _MAX_TEXT})
        ids = _texts(found, {"member": _MAX_ID, "incarnation": _MAX_ID}, plain=False)
        return None if texts is None or ids is None else cls(found["what"], **texts, **ids)


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """What a member has answered to the latest request.

    Attributes:
        id: of the request.
        what: ``"accepted"`` or ``"refused"``.
    """

    id: str
    what: str

    def to_fields(self) -> dict[str, str]:
        """Return what stands in the record."""
        return dataclasses.asdict(self)

    @classmethod
    def from_fields(cls, found: object) -> Answer | None:
        """Return the answer that stands in a record; ``None`` where there is no valid one."""
        if not isinstance(found, dict) or found.get("what") not in (ACCEPTED, REFUSED):
            return None
        texts = _texts(found, {"id": _MAX_TEXT})
        return None if texts is None else cls(texts["id"], found["what"])


def _texts(
    found: Mapping[str, Any], most: Mapping[str, int], *, plain: bool = True
) -> dict[str, str] | None:
    texts = {name: found.get(name) for name in most}
    for name, text in texts.items():
        if not isinstance(text, str) or not 0 < len(text) <= most[name]:
            return None
        if plain and not is_plain(text):
            return None
    return {name: str(text) for name, text in texts.items()}


def is_plain(text: object) -> bool:
    """Whether a stranger's text may stand in a log: it is printable, and neither empty nor long."""
    return isinstance(text, str) and 0 < len(text) <= _MAX_TEXT and text.isprintable()


def printable(name: str) -> str:
    r"""Return a name as a request can carry it: without control characters, and not too long.

    >>> printable("alice\n@ops")
    'alice?@ops'
    """
    shown = "".join(one if one.isprintable() else "?" for one in name)
    return shown[:_MAX_TEXT] or "unknown"
