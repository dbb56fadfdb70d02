"""The errors of the telemetry agents, all of them: what was wrong, which value, what to do.

What is shown to whoever runs an agent is a :class:`~hashring.errors.HashringError`. Exceptions that
one module raises and catches itself are not here. This module imports the core's errors alone, so
that the author of a plug-in needs none of the machinery to raise one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from hashring.errors import HashringError

__all__ = [
    "BadAnnouncement",
    "BadAttribute",
    "BadConfig",
    "BadDefinition",
    "BadEncoding",
    "BadExposition",
    "BadOption",
    "BadResponse",
    "BadTargets",
    "CannotListen",
    "FetchFailed",
    "Gone",
    "HypervisorRefused",
    "HypervisorUnavailable",
    "Missing",
    "NothingToPoll",
    "OutputClosed",
    "OutputFailed",
    "OverlapRefused",
    "SinkUnusable",
    "SpoolBroken",
    "SpoolFull",
    "Unusable",
]

# ---- what authors of plug-ins raise


class Gone(Exception):
    """What was to be polled is no longer there."""


class OutputFailed(HashringError, OSError):
    """Samples could not be written; the message says where and why. The next try may succeed.

    Args:
        message: where, and why.
        retry_after: the seconds that the sink asked to be left alone, where it did.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class SinkUnusable(OutputFailed):
    """A sink will take nothing until a person mends something: an address, a folder, a right.

    The samples wait, and it is tried again; but an agent does not start with such a sink, and does
    not wait for it when it ends.

    Args:
        message: what is wrong, and what to do.
        is_held_by_agent: another agent of this host has it, and would have to end first.
    """

    def __init__(self, message: str, *, is_held_by_agent: bool = False) -> None:
        super().__init__(message)
        self.is_held_by_agent = is_held_by_agent


class OutputClosed(HashringError, BrokenPipeError):
    """Whoever read the samples has gone: there is no use in taking more."""


# ---- what an agent is told


class BadConfig(HashringError, ValueError):
    """A setting of an agent is not usable; the message names it and its value."""


class BadOption(HashringError, ValueError):
    """An option cannot be used; the message names file, line, section, option and value."""


class CannotListen(HashringError, OSError):
    """The address that an agent is to listen on is taken, or not this host's."""


class NothingToPoll(HashringError, ValueError):
    """The definitions leave this agent nothing to do; the message says why."""


# ---- other agents


class BadAnnouncement(HashringError, ValueError):
    """What an agent announces is too large, or is nothing that this version can read."""


class _Described(Protocol):
    def describe(self) -> str: ...


class OverlapRefused(HashringError, ValueError):
    """This agent may not start: another one's meters are at odds with its own.

    Attributes:
        overlaps: with whom, and in what: each an :class:`~hashring.telemetry.overlap.overlap.
            Overlap`.
    """

    def __init__(self, overlaps: Sequence[_Described]) -> None:
        super().__init__("; ".join(overlap.describe() for overlap in overlaps))
        self.overlaps: Sequence[Any] = overlaps


# ---- files


class BadDefinition(HashringError, ValueError):
    """A definition is illegal; the message names the file, the source or sink, field and value."""


class BadTargets(HashringError, ValueError):
    """A file of targets, or a single one, is not usable; the message says where and what."""


class BadAttribute(HashringError, ValueError):
    """An attribute's text is not one, or uses an operation that is not supported."""


# ---- what is polled


class FetchFailed(HashringError, ConnectionError):
    """A URL was not answered, not in time, or not as it should be."""


class BadEncoding(HashringError, ValueError):
    """An answer is compressed in a way that is not understood, or is damaged."""


class BadAnswer(HashringError, ConnectionError):
    """A server's answer is no HTTP, has too many headers, or was cut off."""


class BadResponse(HashringError, ValueError):
    """An endpoint answered, but not what the definitions need."""


class BadExposition(HashringError, ValueError):
    """A target answered, but not in a format that can be read."""


class Missing(HashringError, LookupError):
    """A document does not have the attribute."""


class Unusable(HashringError, ValueError):
    """A document has the attribute, but an operation cannot be done on its value."""


class HypervisorRefused(HashringError):
    """The hypervisor answered a question with an error of its own."""


class HypervisorUnavailable(HashringError, ConnectionError):
    """The hypervisor cannot be reached, or does not answer in time. Asking later may help."""


# ---- samples that wait


class SpoolFull(HashringError):
    """The bound is reached: none of these samples was kept."""


class SpoolBroken(HashringError, OSError):
    """A spool cannot be written or read; the message says which, why, and what became of it."""
