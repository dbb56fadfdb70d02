"""Every error that hashring raises on purpose.

Each derives from :class:`HashringError`, and also from the built-in exception that a caller
would guess (``ValueError``, ``TypeError``, ``KeyError`` ...). A message says what was wrong, which
value it was (secrets masked) and what to do. This module knows nothing of the others.
"""

from __future__ import annotations

__all__ = [
    "BadArgument",
    "BadKey",
    "BadName",
    "BadRecord",
    "BadRing",
    "BadURL",
    "BrokenDriver",
    "EmptyRing",
    "GroupMismatch",
    "HashringError",
    "LeaseLost",
    "MemberExists",
    "MissingDependency",
    "NotAcquired",
    "NotOffered",
    "StoreUnavailable",
    "StoreUnusable",
    "UnknownDriver",
    "UnknownMember",
    "UnsupportedPlatform",
]


class HashringError(Exception):
    """The base of every error that hashring raises on purpose."""


class BadArgument(HashringError, ValueError):
    """An argument is of the wrong type or out of range."""


class BadRing(HashringError, ValueError):
    """A ring cannot be built from these members or parameters."""


class BadKey(HashringError, TypeError):
    """A key is neither ``str`` nor ``bytes``, or cannot be encoded as UTF-8."""


class EmptyRing(HashringError, LookupError):
    """The ring has no member that can own a key."""


class UnknownMember(HashringError, KeyError):
    """The ring has no such member."""

    def __str__(self) -> str:
        # KeyError shows the repr of its argument, which would put the sentence in quotes.
        return str(self.args[0]) if self.args else ""


class BadRecord(HashringError, ValueError):
    """A member's record is not one that this version understands."""


class BadName(HashringError, ValueError):
    """A group's or a member's id is empty, too long, or cannot be encoded as UTF-8."""


class BadURL(HashringError, ValueError):
    """A store's or a sink's URL cannot be parsed, or an option in it is unknown or ill-typed."""


class UnsupportedPlatform(HashringError, OSError):
    """A group cannot be joined on this operating system."""


class UnknownPlugin(HashringError, LookupError):
    """No plug-in of this name is installed."""


class BrokenPlugin(HashringError, ImportError):
    """A plug-in's entry point is installed but cannot be used; its own error is the cause."""


class UnknownDriver(UnknownPlugin):
    """No installed driver serves this URL's scheme."""


class BrokenDriver(BrokenPlugin):
    """A driver's entry point is installed but cannot be used; its own error is the cause."""


class MissingDependency(HashringError, ImportError):
    """A driver needs a client library that is not installed.

    Args:
        what: what needs it, e.g. ``"the redis:// driver"``.
        package: the distribution that is missing, e.g. ``"redis"``.
        extra: the extra of ``hashring-ha`` that brings it, e.g. ``"redis"``.
    """

    def __init__(self, what: str, package: str, extra: str) -> None:
        super().__init__(
            f"{what} needs the package {package!r}, which is not installed: "
            f"pip install 'hashring-ha[{extra}]'"
        )
        self.package = package
        self.extra = extra


class MemberExists(HashringError):
    """Another incarnation of this member holds a live lease in the group."""


class GroupMismatch(HashringError):
    """This member's ring or ttl differs from the group's; it never holds a slot."""


class StoreUnavailable(HashringError, ConnectionError):
    """The store did not answer, or not in time. Whether it acted on the request is unknown."""


class StoreUnusable(HashringError):
    """The store is there but can never serve: no database, corrupt, unwritable, or misplaced.

    Unlike :class:`StoreUnavailable` this does not pass by waiting: a person must act.
    """


class NotOffered(HashringError, NotImplementedError):
    """A store or its driver does not offer this; everything else works."""


class NotAcquired(HashringError, TimeoutError):
    """A lock was not acquired in time: another holds it, or may hold it."""


class LeaseLost(HashringError):
    """The store no longer has this member's record: it expired, or the store forgot it."""
