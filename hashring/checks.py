"""What every driver may rely on of names and records: their checks, before anything is sent.

Pure. :mod:`hashring.driver` hands them on under its own name, for the authors of drivers.
"""

from __future__ import annotations

import json

from hashring.errors import BadName, BadRecord
from hashring.protocol.reading import MAX_RECORD

__all__ = ["MAX_NAME", "check_names", "check_record", "incarnation_of"]

MAX_NAME = 2048
"""The longest group or member id, in bytes of UTF-8, that a driver must carry."""


def incarnation_of(record: bytes) -> str | None:
    """Return the ``incarnation`` in a record, or ``None`` where it has no readable one.

    For a driver's :meth:`Driver.join`, which must tell a member's own second try from another
    incarnation's.

    >>> incarnation_of(b'{"v": 1, "incarnation": "c0ffee"}'), incarnation_of(b"garbage")
    ('c0ffee', None)
    """
    try:
        found = json.loads(record)
    except (ValueError, RecursionError):
        return None
    incarnation = found.get("incarnation") if isinstance(found, dict) else None
    return incarnation if isinstance(incarnation, str) else None


def check_names(group: str, member: str | None = None) -> None:
    """Refuse a group or member id that a store may not carry; any other text is legal.

    Raises:
        BadName: it is no ``str``, is empty, or has more than :data:`MAX_NAME` bytes of UTF-8.

    >>> check_names("agents/eu", "host 1")
    >>> check_names("agents", "")
    Traceback (most recent call last):
    hashring.errors.BadName: a member's id must not be empty
    """
    for what, name in (("group", group), ("member", member)):
        if name is None and what == "member":
            continue
        if not isinstance(name, str):
            raise BadName(f"a {what}'s id must be a str, not {type(name).__name__}: {name!r}")
        if not name:
            raise BadName(f"a {what}'s id must not be empty")
        try:
            size = len(name.encode())
        except UnicodeEncodeError:
            raise BadName(f"the {what} id {name[:80]!r} cannot be encoded as UTF-8") from None
        if size > MAX_NAME or "\0" in name:
            raise BadName(
                f"the {what} id {name[:80]!r} has {size} bytes: at most {MAX_NAME} of UTF-8 "
                "are allowed, and no NUL"
            )


def check_record(record: bytes) -> None:
    """Refuse a record that a driver need not carry, before it is sent.

    Raises:
        BadRecord: it is not ``bytes``, is larger than :data:`MAX_RECORD`, or has an incarnation
            that no UTF-8 can carry (half of a surrogate pair).

    >>> check_record(b"{}")
    """
    if not isinstance(record, bytes):
        raise BadRecord(f"a record must be bytes, not {type(record).__name__}")
    if len(record) > MAX_RECORD:
        raise BadRecord(
            f"the record has {len(record)} bytes, more than the {MAX_RECORD} that a driver "
            "must carry: publish less in meta"
        )
    # A surrogate needs an escape or bytes beyond ASCII: most records are not parsed here.
    if (b"\\" in record or not record.isascii()) and (incarnation := incarnation_of(record)):
        try:
            incarnation.encode()
        except UnicodeEncodeError:
            raise BadRecord(
                f"the incarnation {incarnation[:80]!r} cannot be encoded as UTF-8"
            ) from None
