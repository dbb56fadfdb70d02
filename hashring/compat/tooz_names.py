"""What tooz's names and capabilities are in our records; and results that are there at once.

Ids may be any bytes, or text: both are percent-encoded, and come back as bytes. Pure.
"""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, TypeVar
from urllib.parse import quote_from_bytes, unquote_to_bytes

import tooz
from tooz import coordination, utils

from hashring.errors import BadRecord, HashringError, MemberExists
from hashring.protocol.record import Member

__all__ = [
    "Done",
    "as_bytes",
    "capabilities_of",
    "decoded",
    "encoded",
    "members_of",
    "meta_of",
    "store_group",
    "translated",
]

T = TypeVar("T")

_META = "tooz"


def as_bytes(name: bytes | str) -> bytes:
    """Return an id as tooz has it.

    >>> as_bytes("a"), as_bytes(b"a")
    (b'a', b'a')
    """
    return name if isinstance(name, bytes) else str(name).encode()


def encoded(name: bytes | str) -> str:
    r"""Return a name that every store carries.

    >>> encoded(b"central-\xff/1"), encoded("central-1")
    ('central-%FF%2F1', 'central-1')
    """
    return quote_from_bytes(as_bytes(name), safe="")


def decoded(name: str) -> bytes:
    r"""Return the id that a name stands for.

    >>> decoded("central-%FF%2F1")
    b'central-\xff/1'
    """
    return unquote_to_bytes(name)


def store_group(group_id: bytes | str) -> str:
    """Return the store's group of one of tooz's.

    >>> store_group("central-global")
    'tooz:group:central-global'
    """
    return f"tooz:group:{encoded(group_id)}"


def meta_of(capabilities: Any) -> dict[str, Any]:
    """Return what a member publishes: its capabilities, whatever msgpack can carry."""
    dumped = utils.dumps({} if capabilities is None else capabilities)
    return {_META: {"caps": base64.b64encode(dumped).decode("ascii")}}


def capabilities_of(member: Member) -> Any:
    """Return what a member's record says of its capabilities; none is an empty dict."""
    found = member.meta.get(_META)
    text = found.get("caps") if isinstance(found, Mapping) else None
    if not isinstance(text, str):
        return {}
    try:
        return utils.loads(base64.b64decode(text, validate=True))
    except (ValueError, tooz.ToozError):
        return {}  # a stranger's


def members_of(records: Mapping[str, bytes]) -> dict[bytes, Member]:
    """Return the members that a reading shows, by id; those that are leaving are gone."""
    found = {}
    for name, record in records.items():
        with contextlib.suppress(BadRecord):  # of another make: it owns nothing here
            member = Member.from_json(name, record)
            if not member.draining:
                found[decoded(name)] = member
    return found


@contextlib.contextmanager
def translated(group_id: bytes | str = b"", member_id: bytes = b"") -> Iterator[None]:
    """Raise tooz's errors in place of ours."""
    try:
        yield
    except MemberExists as error:
        raise coordination.MemberAlreadyExist(as_bytes(group_id), member_id) from error
    except HashringError as error:
        raise coordination.ToozConnectionError(f"{type(error).__name__}: {error}", error) from error


class Done(coordination.CoordAsyncResult[T], Generic[T]):
    """The result of a call that has been made; what it raised is raised where it is asked for."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._error: tooz.ToozError | None = None
        try:
            self._value = call()
        except tooz.ToozError as error:
            self._error = error

    def get(self, timeout: float | None = None) -> T:
        """Return what the call returned, or raise what it raised."""
        if self._error is not None:
            raise self._error
        return self._value

    def done(self) -> bool:
        """Whether it is done: always."""
        return True
