"""The errors of the alarms: what was wrong, which value, what to do. Imports the core's alone."""

from __future__ import annotations

from hashring.errors import HashringError

__all__ = [
    "ActionFailed",
    "ActionRefused",
    "BadAlarm",
    "BadEvents",
    "BadQuery",
    "BadSamples",
    "DatabaseUnavailable",
    "DatabaseUnusable",
    "SourceAway",
]


class BadAlarm(HashringError, ValueError):
    """An alarm, or a file of alarms, is wrong; the message names place, field and value."""


class BadQuery(HashringError, ValueError):
    """A query of the API cannot be answered.

    Args:
        field: of the query.
        value: what it has.
        why: what is wrong with it.
    """

    def __init__(self, field: str, value: object, why: str) -> None:
        super().__init__(f"{field} = {value!r}: {why}")
        self.field, self.value, self.why = field, value, why


class BadEvents(HashringError, ValueError):
    """What was posted is no list of events."""


class BadSamples(HashringError, ValueError):
    """What was posted is no list of samples."""


class DatabaseUnavailable(HashringError, ConnectionError):
    """The alarms' database does not answer, or refuses for now; another try may succeed."""


class DatabaseUnusable(HashringError, ValueError):
    """The database cannot be used until a person mends something: an address, its tables."""


class SourceAway(HashringError, ConnectionError):
    """A source of values did not answer the question. It says nothing about the values.

    Args:
        message: which source, and why.
        answered: it did answer, and refused this question; others it may answer.
    """

    def __init__(self, message: str, *, answered: bool = False) -> None:
        super().__init__(message)
        self.answered = answered


class ActionFailed(HashringError, OSError):
    """A notification was not accepted; another try may succeed.

    Args:
        message: where, and why, without secrets.
        answered: whether the sink answered at all. If it did not, its other notifications wait too.
        retry_after: seconds that the sink asked to be left alone, if it did.
    """

    def __init__(
        self, message: str, *, answered: bool = False, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.answered = answered
        self.retry_after = retry_after


class ActionRefused(HashringError, ValueError):
    """The sink refuses a notification for good; no other try can succeed."""
