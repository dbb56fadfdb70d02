"""What the API refuses, and how it says so: in the words and the shape of Aodh's faults."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hashring.errors import HashringError
from hashring.url import bears_secret, masked

__all__ = [
    "Refused",
    "forbidden",
    "invalid",
    "missing",
    "not_found",
    "of_another",
    "one_of",
    "unknown_attribute",
]

_SHOWN = 200
"""Characters of a value that a message shows."""


class Refused(HashringError, ValueError):
    """A request that is answered with a fault.

    Args:
        text: what is wrong, without secrets.
        status: of the answer.
    """

    def __init__(self, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.text = text
        self.status = status

    @property
    def body(self) -> dict[str, Any]:
        """The answer's body."""
        code = "Client" if self.status < 500 else "Server"
        fault = {"faultcode": code, "faultstring": self.text, "debuginfo": None}
        return {"error_message": fault}


def _shown(value: object) -> str:
    if isinstance(value, str) and (bears_secret(value) or "://" in value):
        value = masked(value)
    text = str(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def invalid(field: str, value: object, why: str) -> Refused:
    """Return that a field has a wrong value.

    >>> invalid("limit", -1, "it should be a positive integer.").text
    "Invalid input for field/attribute limit. Value: '-1'. it should be a positive integer."
    """
    return Refused(f"Invalid input for field/attribute {field}. Value: '{_shown(value)}'. {why}")


def missing(field: str) -> Refused:
    """Return that a field must be given."""
    return invalid(field, None, "Mandatory field missing.")


def one_of(field: str, value: object, known: Iterable[str]) -> Refused:
    """Return that a field has none of the values that there are."""
    return invalid(field, value, f"Value should be one of: {', '.join(known)}")


def unknown_attribute(where: str, name: object) -> Refused:
    """Return that there is no such field."""
    return Refused(f"Unknown attribute for argument {where}: {_shown(name)}")


def not_found(alarm_id: str) -> Refused:
    """Return that there is no such alarm, for who asks."""
    return Refused(f"Alarm {_shown(alarm_id)} not found", 404)


def forbidden() -> Refused:
    """Return that a role is missing."""
    return Refused("RBAC Authorization Failed", 403)


def of_another(value: object, aspect: str = "project") -> Refused:
    """Return that a request names somebody else's project or user."""
    return Refused(f"Not Authorized to access {aspect} {_shown(value)}", 401)
