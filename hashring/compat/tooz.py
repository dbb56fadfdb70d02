"""tooz's own HashRing and Partitioner, faster, with the same placement: agents change one by one.

Every key has the owner that ``tooz.hashring`` and ``tooz.partitioner`` of tooz 9 give it; batch
methods that tooz lacks check many keys at once. docs/tooz.md lists where the behaviour differs
on purpose. tooz itself is never imported: a :class:`Partitioner` is handed a coordinator.
Knows nothing of views, leases or hand-over: for those there is :func:`hashring.join`.
"""

from __future__ import annotations

import hashlib
import itertools
import operator
import threading
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Protocol

from hashring.compat._tooz_circle import Circle, Node, asked, frozen
from hashring.compat._toozring_reference import key_bytes
from hashring.errors import BadKey, BadRing, EmptyRing, UnknownMember

__all__ = ["HashRing", "Partitioner", "UnknownNode"]

MOST_POINTS = 1 << 24
"""The most points a node may have: far beyond any use, and where a weight is surely a mistake."""


class UnknownNode(UnknownMember):
    """The ring has no such node.

    Attributes:
        node: the id that was asked for.
    """

    def __init__(self, node: Node) -> None:
        super().__init__(f"Unknown node `{node}'")
        self.node = node


class HashRing:
    """Map keys onto nodes exactly as tooz 9's ``tooz.hashring.HashRing`` does.

    Each node has ``partitions`` x weight points on the circle of the hash function; a key belongs
    to the first point beyond its hash. Methods may be called from several threads: a batch call
    sees one state of the ring.

    Args:
        nodes: ids, ``str`` or ``bytes``; each of weight 1.
        partitions: points for each unit of weight.
        hash_function: a name that :mod:`hashlib` knows, with digests of a fixed size.

    Raises:
        BadRing: the hash function is not supported, or a node or weight is of the wrong type.

    Example:
        >>> ring = HashRing(["agent-1", "agent-2", "agent-3"])
        >>> ring.add_node("agent-4", weight=2)
        >>> ring.get_nodes(b"disk:sda")
        {'agent-4'}
        >>> ring.owned("agent-1", ["disk:sda", "disk:sdb", "disk:sdc", "disk:sdd"])
        ['disk:sdc']
    """

    DEFAULT_PARTITION_NUMBER = 2**5
    DEFAULT_HASH_FUNCTION = "md5"

    def __init__(
        self,
        nodes: Iterable[Node],
        partitions: int = DEFAULT_PARTITION_NUMBER,
        hash_function: str = DEFAULT_HASH_FUNCTION,
    ) -> None:
        self._partition_number = partitions
        self._hash_function = hash_function
        self._hasher(b"")
        self._nodes: dict[Node, int] = {}
        self._owner_of: dict[bytes, Node] = {}
        self._circle: Circle | None = None
        self._changing = threading.Lock()
        # A set, as in tooz: where two nodes claim one point, its order decides.
        self.add_nodes(set(nodes))

    @property
    def nodes(self) -> Mapping[Node, int]:
        """The nodes and their weights, read-only."""
        return MappingProxyType(self._nodes)

    def add_node(self, node: Node, weight: int = 1) -> None:
        """Add a node, or add to a node that is there the points of a greater weight.

        Args:
            node: its id.
            weight: its share against the other nodes: 3 gets thrice the keys of 1.

        Raises:
            BadRing: the id or the weight is of the wrong type; the ring is as it was.
        """
        self.add_nodes((node,), weight)

    def add_nodes(self, nodes: Iterable[Node], weight: int = 1) -> None:
        """Add nodes of equal weight; see :meth:`add_node`."""
        points = [(node, self._points(node, weight)) for node in nodes]
        with self._changing:
            for node, digests in points:
                self._owner_of.update(dict.fromkeys(digests, node))
                self._nodes[node] = weight
            self._circle = None

    def remove_node(self, node: Node) -> None:
        """Remove a node.

        Raises:
            UnknownNode: the ring has no such node.
        """
        with self._changing:
            if node not in self._nodes:
                raise UnknownNode(node)
            for digest in self._points(node, self._nodes.pop(node)):
                # Gone already where a node removed before claimed the same point ("a" and "aa"
                # share some). tooz breaks off here with a KeyError and a ring that is half done.
                self._owner_of.pop(digest, None)
            self._circle = None

    def get_nodes(
        self,
        data: bytes | bytearray | memoryview,
        ignore_nodes: Iterable[Node] | None = None,
        replicas: int = 1,
    ) -> set[Node]:
        """Return the nodes that a key maps onto.

        Args:
            data: the key's bytes.
            ignore_nodes: nodes that are passed over.
            replicas: how many distinct nodes are wanted.

        Returns:
            ``replicas`` nodes, or as many as there are.

        Raises:
            BadKey: ``data`` is not bytes.
            EmptyRing: the ring has nodes, but all of weight 0.
        """
        circle = self._now()
        try:
            position = circle.index.position(data)
        except TypeError:
            raise BadKey(
                f"get_nodes() takes a key's bytes, not {type(data).__name__}: encode a str first"
            ) from None
        if replicas == 1 and not ignore_nodes and circle.owners and circle.nodes:
            return {circle.owners[position]}
        return circle.walk(position, frozen(ignore_nodes), replicas)

    def owned(
        self,
        node: Node,
        keys: Iterable[Any],
        ignore_nodes: Iterable[Node] | None = None,
        replicas: int = 1,
    ) -> list[Any]:
        """Return, in order, those of ``keys`` for which :meth:`get_nodes` would name ``node``.

        Args:
            node: a node of the ring.
            keys: ``bytes``, or ``str``, which stand for their UTF-8 bytes.
            ignore_nodes: nodes that are passed over.
            replicas: how many distinct nodes share a key.

        Raises:
            UnknownNode: the ring has no such node.
            BadKey: a key is of another type, or has no UTF-8 form.
        """
        circle = self._knowing(node)
        return circle.index.owned(keys, circle.flags(asked(node, ignore_nodes, replicas)))

    def mask(
        self,
        node: Node,
        keys: Iterable[Any],
        ignore_nodes: Iterable[Node] | None = None,
        replicas: int = 1,
    ) -> bytearray:
        r"""Return one byte a key: 1 where :meth:`get_nodes` would name ``node``, else 0.

        Arguments and errors are those of :meth:`owned`.

        >>> HashRing(["a", "b"]).mask("a", ["sda", "sdb", "sdc"])
        bytearray(b'\x01\x00\x00')
        """
        circle = self._knowing(node)
        return circle.index.mask(keys, circle.flags(asked(node, ignore_nodes, replicas)))

    def assign(self, keys: Iterable[Any]) -> dict[Node, list[Any]]:
        """Return every node with the keys that it owns, in order.

        Args:
            keys: ``bytes``, or ``str``, which stand for their UTF-8 bytes.

        Raises:
            EmptyRing: there are keys, but no node that can own one.
            BadKey: a key is of another type, or has no UTF-8 form.

        >>> HashRing(["a", "b"]).assign(["sda", "sdb", "sdc"])
        {'a': ['sda'], 'b': ['sdb', 'sdc']}
        """
        circle = self._now()
        piles: dict[Node, list[Any]] = {node: [] for node in sorted(circle.nodes, key=repr)}
        if not (circle.owners and circle.nodes):
            for key in keys:
                raise EmptyRing(f"no node of the ring can own the key {key!r}")
            return piles
        circle.index.deal(keys, [piles.setdefault(owner, []) for owner in circle.owners])
        return piles

    def __getitem__(self, key: bytes) -> set[Node]:
        return self.get_nodes(key)

    def __len__(self) -> int:
        """Return the number of points, not of nodes: as tooz does."""
        return len(self._owner_of)

    def __repr__(self) -> str:
        return (
            f"<{type(self).__module__}.{type(self).__qualname__} of {len(self._nodes)} nodes, "
            f"{len(self)} points, {self._hash_function}>"
        )

    def _hasher(self, data: bytes) -> Any:
        try:
            hasher = (
                hashlib.md5(data, usedforsecurity=False)
                if self._hash_function == "md5"
                else hashlib.new(self._hash_function, data)
            )
            hasher.digest()  # shake_128 and shake_256 have no digest of a fixed size
        except (ValueError, TypeError) as error:
            raise BadRing(
                f"Hash function {self._hash_function!r} is not supported on this system "
                f"({error}), supported are {', '.join(sorted(hashlib.algorithms_available))}"
            ) from None
        return hasher

    def _points(self, node: Node, weight: int) -> list[bytes]:
        """Return a node's points: the digests of its id written 2, 3, 4 ... times over."""
        if not isinstance(node, (str, bytes)):
            raise BadRing(f"a node must be str or bytes, not {type(node).__name__}: {node!r}")
        try:
            count = operator.index(self._partition_number * weight)
        except TypeError:
            raise BadRing(
                f"partitions ({self._partition_number!r}) times the weight of {node!r} "
                f"({weight!r}) must be a whole number"
            ) from None
        if count > MOST_POINTS:
            raise BadRing(
                f"the weight {weight!r} of {node!r} asks for {count} points; "
                f"the most a node may have is {MOST_POINTS}"
            )
        try:
            key = key_bytes(node)
        except BadKey as error:
            raise BadRing(f"a node's id cannot be hashed: {error}") from None
        hasher = self._hasher(key)
        points = []
        for _ in range(count):
            hasher.update(key)
            points.append(hasher.digest())
        return points

    def _now(self) -> Circle:
        """Return the ring as it is, drawn anew after a change by whoever asks first."""
        circle = self._circle
        if circle is None:
            with self._changing:
                circle = self._circle
                if circle is None:
                    circle = Circle(self._owner_of, self._nodes, self._hash_function)
                    self._circle = circle
        return circle

    def _knowing(self, node: Node) -> Circle:
        circle = self._now()
        if node not in circle.nodes and not circle.places(node):
            raise UnknownNode(node)
        return circle


class _Result(Protocol):
    def get(self, timeout: float | None = None) -> Any: ...


class _Coordinator(Protocol):
    """What a :class:`Partitioner` uses of a tooz coordinator."""

    _member_id: Any

    def get_members(self, group_id: Any) -> _Result: ...
    def get_member_capabilities(self, group_id: Any, member_id: Any) -> _Result: ...
    def watch_join_group(self, group_id: Any, callback: Any) -> Any: ...
    def watch_leave_group(self, group_id: Any, callback: Any) -> Any: ...
    def unwatch_join_group(self, group_id: Any, callback: Any) -> Any: ...
    def unwatch_leave_group(self, group_id: Any, callback: Any) -> Any: ...


class Partitioner:
    """Split objects among a tooz group's members exactly as tooz 9's ``Partitioner`` does.

    The ring follows the group whenever the coordinator's ``run_watchers`` is called. A member's
    weight is ``"weight"`` of its capabilities where those are a dict, else 1. An object is hashed
    by its ``__tooz_hash__()`` (bytes) if it has one, else by its ``str()`` in UTF-8. ::

        coordinator.join_group_create(b"pollers")
        partitioner = Partitioner(coordinator, b"pollers")
        while working:
            coordinator.run_watchers()
            for resource in partitioner.owned_by_self(discover()):
                poll(resource)

    Args:
        coordinator: a started tooz coordinator.
        group_id: an existing group.
        partitions: points on the ring for each unit of weight.

    Raises:
        BadRing: a member's weight is not a whole number.

    Attributes:
        ring: the :class:`HashRing`.
    """

    DEFAULT_PARTITION_NUMBER = HashRing.DEFAULT_PARTITION_NUMBER

    def __init__(
        self,
        coordinator: _Coordinator,
        group_id: Any,
        partitions: int = DEFAULT_PARTITION_NUMBER,
    ) -> None:
        self.partitions = partitions
        self.group_id = group_id
        self._coord = coordinator
        self.ring = HashRing([], partitions=partitions)
        # Watch first, read then: tooz does it the other way round, and a member that joins or
        # leaves in between stays unknown to it, or known, for good.
        coordinator.watch_join_group(group_id, self._on_member_join)
        try:
            coordinator.watch_leave_group(group_id, self._on_member_leave)
            try:
                members = coordinator.get_members(group_id).get()
                asked = [(m, coordinator.get_member_capabilities(group_id, m)) for m in members]
                for member, answer in asked:
                    self.ring.add_node(member, _weight(answer.get()))
            except BaseException:
                coordinator.unwatch_leave_group(group_id, self._on_member_leave)
                raise
        except BaseException:
            coordinator.unwatch_join_group(group_id, self._on_member_join)
            raise

    def members_for_object(
        self,
        obj: object,
        ignore_members: Iterable[Node] | None = None,
        replicas: int = 1,
    ) -> set[Node]:
        """Return the members responsible for an object.

        Args:
            obj: any object.
            ignore_members: members that are passed over.
            replicas: how many members are wanted.
        """
        return self.ring.get_nodes(self._hash_object(obj), ignore_members, replicas)

    def belongs_to_member(
        self,
        obj: object,
        member_id: Node,
        ignore_members: Iterable[Node] | None = None,
        replicas: int = 1,
    ) -> bool:
        """Return whether a member is responsible for an object; False for an unknown member."""
        return member_id in self.members_for_object(obj, ignore_members, replicas)

    def belongs_to_self(
        self,
        obj: object,
        ignore_members: Iterable[Node] | None = None,
        replicas: int = 1,
    ) -> bool:
        """Return whether this coordinator's own member is responsible for an object."""
        return self.belongs_to_member(obj, self._coord._member_id, ignore_members, replicas)

    def owned_by_member(
        self,
        objects: Iterable[Any],
        member_id: Node,
        ignore_members: Iterable[Node] | None = None,
        replicas: int = 1,
    ) -> list[Any]:
        """Return, in order, the objects for which :meth:`belongs_to_member` is true.

        Fastest where all objects are ``str``.
        """
        circle = self.ring._now()
        flags = circle.flags(asked(member_id, ignore_members, replicas))
        if self._hashes_str_as_itself():
            return circle.index.owned(objects, flags, self._hash_object)
        objects = list(objects)
        mask = circle.index.mask([self._hash_object(obj) for obj in objects], flags)
        return list(itertools.compress(objects, mask))

    def owned_by_self(
        self,
        objects: Iterable[Any],
        ignore_members: Iterable[Node] | None = None,
        replicas: int = 1,
    ) -> list[Any]:
        """Return, in order, the objects for which :meth:`belongs_to_self` is true."""
        return self.owned_by_member(objects, self._coord._member_id, ignore_members, replicas)

    def mask_for_member(
        self,
        objects: Iterable[Any],
        member_id: Node,
        ignore_members: Iterable[Node] | None = None,
        replicas: int = 1,
    ) -> bytearray:
        """Return one byte an object: 1 where :meth:`belongs_to_member` is true, else 0."""
        circle = self.ring._now()
        flags = circle.flags(asked(member_id, ignore_members, replicas))
        if self._hashes_str_as_itself():
            return circle.index.mask(objects, flags, self._hash_object)
        return circle.index.mask([self._hash_object(obj) for obj in objects], flags)

    def mask_for_self(
        self,
        objects: Iterable[Any],
        ignore_members: Iterable[Node] | None = None,
        replicas: int = 1,
    ) -> bytearray:
        """Return one byte an object: 1 where :meth:`belongs_to_self` is true, else 0."""
        return self.mask_for_member(objects, self._coord._member_id, ignore_members, replicas)

    def stop(self) -> None:
        """Follow the group no longer."""
        self._coord.unwatch_join_group(self.group_id, self._on_member_join)
        self._coord.unwatch_leave_group(self.group_id, self._on_member_leave)

    @staticmethod
    def _hash_object(obj: object) -> bytes:
        own = getattr(obj, "__tooz_hash__", None)
        if own is not None:
            data = own()
            if not isinstance(data, (bytes, bytearray, memoryview)):
                raise BadKey(
                    f"__tooz_hash__() of {type(obj).__name__} must return bytes, "
                    f"not {type(data).__name__}"
                )
            return bytes(data)
        return key_bytes(str(obj))

    def _hashes_str_as_itself(self) -> bool:
        # A subclass may hash objects in its own way; then nothing is taken for granted.
        return type(self)._hash_object is Partitioner._hash_object

    def _on_member_join(self, event: Any) -> None:
        answer = self._coord.get_member_capabilities(self.group_id, event.member_id)
        self.ring.add_node(event.member_id, _weight(answer.get()))

    def _on_member_leave(self, event: Any) -> None:
        # A member that left between the first watch and the first reading was never added.
        if event.member_id in self.ring.nodes:
            self.ring.remove_node(event.member_id)


def _weight(capabilities: object) -> Any:
    return capabilities.get("weight", 1) if isinstance(capabilities, dict) else 1
