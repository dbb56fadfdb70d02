"""Which Redis server serves a group now: one address, Sentinel's primary, or a cluster's node.

This module knows Sentinel and Cluster. It knows nothing of groups, leases or records.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import redis
from redis.crc import key_slot

from .nodes import Address, Deadline, Link, Node, NotVouched

__all__ = ["ClusterRoute", "PlainRoute", "Route", "SentinelRoute"]


class Route(Protocol):
    """Which server serves a key now, and whether it still did when it had answered."""

    def find(self, key: bytes, deadline: Deadline) -> Node:
        """Return the primary for a key."""

    def moved(self, key: bytes, address: Address) -> None:
        """Take a server's word that another one serves the key."""

    def forget(self, key: bytes) -> None:
        """Look anew next time: the server failed, or serves no more."""

    def vouch(self, key: bytes, node: Node, acked: bool | None, deadline: Deadline) -> None:
        """Return if ``node`` was still the primary after the call began.

        Args:
            key: any key of the group.
            node: the server that answered a write.
            acked: whether enough of its replicas confirmed the write; ``None``: it lists none.
            deadline: when to give up.

        Raises:
            NotVouched: perhaps it was not.
        """

    def primaries(self, deadline: Deadline) -> list[Node]:
        """Return every server that may have groups."""

    def close(self) -> None:
        """Close every connection."""


class PlainRoute:
    """One address, for ever. Where it ever listed replicas, they must confirm what it confirms.

    Behind the address may be one server today and its replica tomorrow. The one that was replaced
    has lost that replica, and may not know why; so it does not count as one that never had any.
    """

    def __init__(self, node: Node) -> None:
        self._node = node

    def find(self, key: bytes, deadline: Deadline) -> Node:
        """See :meth:`Route.find`."""
        return self._node

    def moved(self, key: bytes, address: Address) -> None:
        """See :meth:`Route.moved`."""
        raise redis.RedisError(
            f"the server says that {address[0]}:{address[1]} has this group: it is part of a "
            "cluster, write redis+cluster://"
        )

    def forget(self, key: bytes) -> None:
        """See :meth:`Route.forget`."""
        pass

    def vouch(self, key: bytes, node: Node, acked: bool | None, deadline: Deadline) -> None:
        """See :meth:`Route.vouch`."""
        if acked is False:
            raise NotVouched(
                f"the replicas of {node} did not confirm the write: it lists {node.replicas}, and "
                f"the most it ever listed is {node.most}. It may have been replaced. If replicas "
                f"were removed on purpose, say how many must confirm: write replicas=0 for none"
            )

    def primaries(self, deadline: Deadline) -> list[Node]:
        """See :meth:`Route.primaries`."""
        return [self._node]

    def close(self) -> None:
        """See :meth:`Route.close`."""
        self._node.close()


@dataclasses.dataclass(frozen=True)
class _Said:
    """What one Sentinel says of the primary."""

    address: Address
    epoch: int  # rises with each failover
    flags: frozenset[str]
    sentinels: int

    @property
    def sound(self) -> bool:
        # Anything more (s_down, o_down, failover_in_progress, ...) is the start of a failover.
        return self.flags == {"master"}


class SentinelRoute:
    """The primary that Sentinels name.

    Why a write counts only when a majority of the Sentinels still calls its server a sound primary
    *after* it: a failover needs a majority too, so from its start on no write to the old primary
    counts, however long that one lives on for those who can reach it. Those Sentinels may not have
    heard yet of a failover that another one has just led; so the replicas must confirm, too, or be
    down in the eyes of the same Sentinels and hence not be the new primary.
    """

    def __init__(
        self,
        name: str,
        sentinels: Sequence[Address],
        make_sentinel: Callable[[Address], Link],
        make: Callable[[Address], Link],
        connect_timeout: float,
    ) -> None:
        self._name = name
        self._make_sentinel = make_sentinel
        self._make = make
        self._connect_timeout = connect_timeout
        self._lock = threading.Lock()
        self._sentinels = [Node(a, make_sentinel, connect_timeout) for a in sentinels]
        self._primary: Node | None = None

    def find(self, key: bytes, deadline: Deadline) -> Node:
        """See :meth:`Route.find`."""
        with self._lock:
            if self._primary is not None:
                return self._primary
        address = self._discover(deadline)
        with self._lock:
            if self._primary is None:
                self._primary = Node(address, self._make, self._connect_timeout)
            return self._primary

    def moved(self, key: bytes, address: Address) -> None:
        """See :meth:`Route.moved`."""
        self.forget(key)

    def forget(self, key: bytes) -> None:
        """See :meth:`Route.forget`."""
        with self._lock:
            primary, self._primary = self._primary, None
        if primary is not None:
            primary.close()

    def vouch(self, key: bytes, node: Node, acked: bool | None, deadline: Deadline) -> None:
        """See :meth:`Route.vouch`."""
        with self._lock:
            sentinels = list(self._sentinels)
        vouching = all_of_them = 0
        needed = 1
        reasons = []
        for asked, sentinel in enumerate(sentinels):
            try:
                within = deadline.share(len(sentinels) - asked)
                said = self._ask(sentinel, within)
                # One that we know by a name and by an address is asked twice, and must not have
                # two votes: each that we know too many of takes one vote more.
                all_of_them = max(all_of_them, said.sentinels)
                needed = all_of_them // 2 + 1 + max(0, len(sentinels) - all_of_them)
                if said.address != node.address:
                    reasons.append(f"{sentinel} names {said.address[0]}:{said.address[1]}")
                elif not said.sound:
                    reasons.append(f"{sentinel} says {','.join(sorted(said.flags))}")
                elif not acked and (alive := self._replica_alive(sentinel, within)):
                    reasons.append(f"{sentinel} says that the replica {alive} is up")
                else:
                    vouching += 1
            except (redis.RedisError, OSError) as error:
                reasons.append(f"{sentinel}: {error}")
                self._demote(sentinel)
            if vouching >= needed:
                return
        without = "" if acked else ", and its replicas did not confirm the write"
        raise NotVouched(
            f"{vouching} of {len(sentinels)} Sentinels say that {node} is the primary, {needed} "
            f"are needed{without} ({'; '.join(reasons)})"
        )

    def primaries(self, deadline: Deadline) -> list[Node]:
        """See :meth:`Route.primaries`."""
        return [self.find(b"", deadline)]

    def close(self) -> None:
        """See :meth:`Route.close`."""
        self.forget(b"")
        for sentinel in self._sentinels:
            sentinel.close()

    def _discover(self, deadline: Deadline) -> Address:
        with self._lock:
            sentinels = list(self._sentinels)
        said: list[_Said] = []
        reasons = []
        for asked, sentinel in enumerate(sentinels):
            try:
                answer = self._ask(sentinel, deadline.share(len(sentinels) - asked))
                if answer.sentinels > len(sentinels):
                    self._learn(sentinel, deadline)
                said.append(answer)
            except (redis.RedisError, OSError) as error:
                reasons.append(f"{sentinel}: {error}")
                self._demote(sentinel)
            if len(said) > len(sentinels) // 2:
                break
        if not said:
            raise redis.ConnectionError(
                f"no Sentinel names the primary {self._name!r} ({'; '.join(reasons)})"
            )
        return max(said, key=lambda answer: answer.epoch).address

    def _demote(self, sentinel: Node) -> None:
        """Ask this Sentinel last from now on: it may cost its share of the time again."""
        with self._lock:
            if sentinel in self._sentinels:
                self._sentinels.remove(sentinel)
                self._sentinels.append(sentinel)

    def _ask(self, sentinel: Node, deadline: Deadline) -> _Said:
        (reply,) = sentinel.ask([("SENTINEL", "MASTER", self._name)], deadline)
        found = _pairs(reply)
        return _Said(
            address=(found["ip"], int(found["port"])),
            epoch=int(found["config-epoch"]),
            flags=frozenset(found["flags"].split(",")),
            sentinels=int(found["num-other-sentinels"]) + 1,
        )

    def _replica_alive(self, sentinel: Node, deadline: Deadline) -> str | None:
        (reply,) = sentinel.ask([("SENTINEL", "SLAVES", self._name)], deadline)
        if isinstance(reply, redis.RedisError):
            raise reply
        for found in map(_pairs, reply):
            if not {"s_down", "disconnected"} & set(found["flags"].split(",")):
                return f"{found['ip']}:{found['port']}"
        return None

    def _learn(self, sentinel: Node, deadline: Deadline) -> None:
        """Add the Sentinels that the URL does not name: a majority is one of them all."""
        (reply,) = sentinel.ask([("SENTINEL", "SENTINELS", self._name)], deadline)
        if isinstance(reply, redis.RedisError):
            raise reply
        for found in map(_pairs, reply):
            address = (found["ip"], int(found["port"]))
            made = Node(address, self._make_sentinel, self._connect_timeout)
            with self._lock:
                if address not in [known.address for known in self._sentinels]:
                    self._sentinels.append(made)


class ClusterRoute:
    """The primary of a key's hash slot, in a Redis Cluster."""

    def __init__(
        self,
        seeds: Sequence[Address],
        make: Callable[[Address], Link],
        connect_timeout: float,
    ) -> None:
        self._make = make
        self._connect_timeout = connect_timeout
        self._lock = threading.Lock()
        self._nodes = {a: Node(a, make, connect_timeout) for a in seeds}
        self._primaries: list[tuple[int, int, Address, int]] = []  # first, last, address, replicas
        self._said: dict[int, Address] = {}

    def find(self, key: bytes, deadline: Deadline) -> Node:
        """See :meth:`Route.find`."""
        slot = key_slot(key)
        with self._lock:
            said = self._said.get(slot)
            known = list(self._primaries)
        if said is not None:
            return self._node(said)
        if not known:
            known = self._discover(deadline)
        for first, last, address, _ in known:
            if first <= slot <= last:
                return self._node(address)
        self.forget(key)
        raise redis.ConnectionError(f"no node of the cluster serves the hash slot {slot}")

    def moved(self, key: bytes, address: Address) -> None:
        """See :meth:`Route.moved`."""
        with self._lock:
            self._said[key_slot(key)] = address
            self._primaries = []

    def forget(self, key: bytes) -> None:
        """See :meth:`Route.forget`."""
        with self._lock:
            self._said.pop(key_slot(key), None)
            self._primaries = []

    def vouch(self, key: bytes, node: Node, acked: bool | None, deadline: Deadline) -> None:
        """The replicas' word counts; without it, that of a majority of the other primaries.

        A primary that lost touch with the majority stops itself after the node timeout. One that
        was paused for longer needs a moment to find that out, and in it has no replicas.
        """
        with self._lock:
            known = list(self._primaries)
        slot = key_slot(key)
        replicated = any(f <= slot <= last and count for f, last, _, count in known)
        if acked or (acked is None and known and not replicated):
            return
        others = {address for _, _, address, _ in known} - {node.address}
        vouching = 1
        reasons = []
        for asked, address in enumerate(sorted(others)):
            try:
                told = self._slots(self._node(address), deadline.share(len(others) - asked))
                if any(f <= slot <= last and a == node.address for f, last, a, _ in told):
                    vouching += 1
                else:
                    reasons.append(f"{address[0]}:{address[1]} names another one")
            except (redis.RedisError, OSError) as error:
                reasons.append(f"{address[0]}:{address[1]}: {error}")
        if not known or vouching < (len(others) + 1) // 2 + 1:
            self.forget(key)
            raise NotVouched(
                f"{node} has no replica that confirms the write, and only {vouching} of "
                f"{len(others) + 1} primaries say that it serves the hash slot {slot} "
                f"({'; '.join(reasons)})"
            )

    def primaries(self, deadline: Deadline) -> list[Node]:
        """See :meth:`Route.primaries`."""
        addresses = {address for _, _, address, _ in self._discover(deadline)}
        return [self._node(address) for address in sorted(addresses)]

    def close(self) -> None:
        """See :meth:`Route.close`."""
        with self._lock:
            nodes = list(self._nodes.values())
        for node in nodes:
            node.close()

    def _node(self, address: Address) -> Node:
        with self._lock:
            if address not in self._nodes:
                self._nodes[address] = Node(address, self._make, self._connect_timeout)
            return self._nodes[address]

    def _discover(self, deadline: Deadline) -> list[tuple[int, int, Address, int]]:
        with self._lock:
            nodes = list(self._nodes.values())
        reasons = []
        for asked, node in enumerate(nodes):
            try:
                found = self._slots(node, deadline.share(len(nodes) - asked))
                if not found:
                    raise redis.ConnectionError("it knows of no primary")
            except (redis.RedisError, OSError) as error:
                reasons.append(f"{node}: {error}")
            else:
                with self._lock:
                    self._primaries = found
                return found
        raise redis.ConnectionError(f"no node tells the cluster's layout ({'; '.join(reasons)})")

    @staticmethod
    def _slots(node: Node, deadline: Deadline) -> list[tuple[int, int, Address, int]]:
        (reply,) = node.ask([("CLUSTER", "SLOTS")], deadline)
        if isinstance(reply, redis.RedisError):
            raise reply
        found = []
        for first, last, primary, *replicas in reply:
            # An empty host means the one that was asked.
            host = primary[0].decode() if primary[0] else node.address[0]
            found.append((int(first), int(last), (host, int(primary[1])), len(replicas)))
        return found


def _pairs(reply: Any) -> dict[str, str]:
    if isinstance(reply, redis.RedisError):
        raise reply
    flat = [part.decode() for part in reply]
    return dict(zip(flat[::2], flat[1::2], strict=True))
