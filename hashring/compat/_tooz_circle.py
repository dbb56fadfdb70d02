"""A tooz ring at one moment: its points, whose they are, and what a walk along them finds.

``tooz.py`` draws a new one after each change. This module knows no weights and no coordinator.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias

from hashring.compat import _toozring_reference as _reference
from hashring.compat._toozring_reference import key_bytes
from hashring.errors import EmptyRing

try:
    from hashring.compat import _toozring as _native
except ImportError:  # no C compiler where this was installed
    _native = None  # type: ignore[assignment]

Node: TypeAlias = Any
"""A node's id: ``str`` or ``bytes``; tooz's coordinators use bytes."""

_FLAGS_KEPT = 16  # questions (node, ignored, replicas) whose answer by position is kept


class PointIndex(Protocol):
    """The points of a ring, and of many keys where each falls: compiled, or in plain Python."""

    def position(self, data: bytes | bytearray | memoryview) -> int: ...
    def mask(
        self, keys: Iterable[Any], flags: bytes, form: Callable[[Any], bytes] = key_bytes
    ) -> bytearray: ...
    def owned(
        self, keys: Iterable[Any], flags: bytes, form: Callable[[Any], bytes] = key_bytes
    ) -> list[Any]: ...
    def deal(self, keys: Iterable[Any], piles: Sequence[list[Any]]) -> None: ...


class Question(NamedTuple):
    """Does a key belong to this node, these passed over, so many wanted?"""

    node: Node
    ignored: frozenset[Node]
    replicas: int


class Circle:
    """A ring at one moment, never changed: its points in order and whose they are."""

    def __init__(
        self, owner_of: Mapping[bytes, Node], nodes: Iterable[Node], hash_function: str
    ) -> None:
        points = sorted(owner_of)
        self.owners: list[Node] = [owner_of[point] for point in points]
        self.nodes = frozenset(nodes)
        self.index: PointIndex
        if _native is not None and hash_function == "md5":
            self.index = _native.PointIndex(points)
        else:
            self.index = _reference.PointIndex(points, hash_function)
        self._places: dict[Node, list[int]] | None = None
        self._flags: dict[Question, bytes] = {}

    def places(self, node: Node) -> list[int]:
        """Return the positions of one node's points, ascending."""
        if self._places is None:
            places: dict[Node, list[int]] = {}
            for position, owner in enumerate(self.owners):
                places.setdefault(owner, []).append(position)
            self._places = places
        return self._places.get(node, [])

    def walk(self, position: int, ignored: frozenset[Node], replicas: int) -> set[Node]:
        """Return the first distinct nodes from a position on, once around at most."""
        replicas = min(replicas, len(self.nodes - ignored))
        if replicas < 1:
            return set()
        if not self.owners:
            raise EmptyRing(
                "the ring has nodes but no points: every weight, or `partitions`, is zero"
            )
        found: set[Node] = set()
        for owner in itertools.chain(self.owners[position:], self.owners[:position]):
            if owner not in ignored:
                found.add(owner)
                if len(found) == replicas:
                    break
        return found

    def flags(self, question: Question) -> bytes:
        """Return one byte a position: 1 where :meth:`walk` from there would find the node."""
        known = self._flags.get(question)
        if known is None:
            known = self._flags_of(*question)
            if len(self._flags) >= _FLAGS_KEPT:
                self._flags.clear()
            self._flags[question] = known
        return known

    def _flags_of(self, node: Node, ignored: frozenset[Node], replicas: int) -> bytes:
        flags = bytearray(len(self.owners))
        replicas = min(replicas, len(self.nodes - ignored))
        if node in ignored or replicas < 1:
            return bytes(flags)
        for place in self.places(node):
            # Walk back from each point of the node for as long as fewer than `replicas` others
            # would be found first. Before a further point of the node, that one's walk takes over.
            others: set[Node] = set()
            for position in itertools.chain(range(place, -1, -1), range(len(flags) - 1, place, -1)):
                owner = self.owners[position]
                if owner == node:
                    if position != place:
                        break
                elif owner not in ignored:
                    others.add(owner)
                    if len(others) == replicas:
                        break
                flags[position] = 1
        return bytes(flags)


def frozen(nodes: Iterable[Node] | None) -> frozenset[Node]:
    """Return nodes to pass over, or none, as a set."""
    return frozenset(nodes) if nodes else frozenset()


def asked(node: Node, ignored: Iterable[Node] | None, replicas: int) -> Question:
    """Return the question in the one form in which its answer is kept."""
    return Question(node, frozen(ignored), replicas)
