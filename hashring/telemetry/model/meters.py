"""MeterFilter: which meters are asked for, by names, wildcards and exclusions.

Knows names alone: neither files nor pollsters.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Final

from hashring.telemetry.errors import BadDefinition

__all__ = ["MeterFilter"]


class MeterFilter:
    """Which meters a source asks for: names and wildcards, or exclusions (``!name``).

    Legal are included names alone, excluded names alone, ``*`` alone, and ``*`` with excluded
    names; as in Ceilometer, any pattern that begins with ``*`` counts as a wildcard, not as a name.
    An exclusion wins over an inclusion, and exclusions alone allow all the rest.

    Args:
        patterns: as in a source's ``meters``; wildcards are those of :mod:`fnmatch`.

    Raises:
        BadDefinition: there is none, one is no name, or they contradict each other.

    Example:
        >>> disks = MeterFilter(["disk.*", "cpu"])
        >>> disks.allows("disk.read.bytes"), disks.allows("memory")
        (True, False)
        >>> MeterFilter(["!disk.*"]).allows("memory")
        True
        >>> MeterFilter(["cpu", "!disk.*"])
        Traceback (most recent call last):
        hashring.telemetry.errors.BadDefinition: meters has both included ...
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        self.patterns: Final = tuple(patterns)
        if not self.patterns:
            raise BadDefinition(
                'meters is empty: name the meters to poll, or write "*" for all of them'
            )
        for pattern in self.patterns:
            if pattern in {"", "!"}:
                raise BadDefinition(f"meters has an entry without a name: {pattern!r}")
        included = [pattern for pattern in self.patterns if pattern[0] not in "!*"]
        excluded = [pattern for pattern in self.patterns if pattern[0] == "!"]
        if included and excluded:
            raise BadDefinition(
                f"meters has both included ({included[0]!r}) and excluded ({excluded[0]!r}) names: "
                "use one kind, or make two sources of it"
            )
        if included and "*" in self.patterns:
            raise BadDefinition(
                f"meters has '*', which is every meter, and beside it {included[0]!r}: "
                "leave one of them out"
            )
        self._denied = [pattern[1:] for pattern in excluded]
        self._allowed = [pattern for pattern in self.patterns if pattern[0] != "!"] or ["*"]

    def __repr__(self) -> str:
        return f"MeterFilter({list(self.patterns)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MeterFilter) and self.patterns == other.patterns

    def __hash__(self) -> int:
        return hash(self.patterns)

    def allows(self, name: str) -> bool:
        """Return whether the source asks for the meter of this name."""
        return not _any_matches(name, self._denied) and _any_matches(name, self._allowed)

    def may_allow_prefix(self, prefix: str) -> bool:
        """Return whether a name that begins so could be allowed; ``False`` is certain.

        >>> MeterFilter(["snmp.load", "*.bytes"]).may_allow_prefix("snmp.")
        True
        >>> MeterFilter(["*", "!snmp.*"]).may_allow_prefix("snmp.")
        False
        """
        # What matches a pattern that ends in a star matches it with any more text, too.
        denied = [pattern for pattern in self._denied if pattern.endswith("*")]
        if _any_matches(prefix, denied):
            return False
        return any(_may_begin_with(prefix, pattern) for pattern in self._allowed)


def _any_matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


# The parts that fnmatch knows: a set, where its bracket is closed, or a single character.
_PATTERN_PART = re.compile(r"\[!?\]?[^\]]*\]|.", re.DOTALL)


def _may_begin_with(prefix: str, pattern: str) -> bool:
    """Return whether some text with this prefix matches: its parts up to somewhere match it."""
    parts = _PATTERN_PART.findall(pattern)
    return any(fnmatchcase(prefix, "".join(parts[:end])) for end in range(len(parts) + 1))
