"""Everybody who answers "which of these keys are mine?", behind one small interface.

Each is used as its own documentation does, on the same members and keys. `owned` is asked for the
keys of one member: peers that know only "whose is this key?" are looped over, in the fastest loop
that Python has for it.
"""

import bisect
import dataclasses
import functools
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import clandestined
import jump
import mmh3
import tooz.hashring
import tooz.partitioner
import uhashring

import hashring
from bench import _floors
from bench.names import COMPAT, HASH, OURS, OURS_KEYS, TOOZ, TOUCH
from hashring.compat import tooz as compat
from hashring.ring import _engine

PEERS = Path(__file__).resolve().parent.parent / ".benchmarks" / "peers"
"""Where `make bench` puts the peers whose import name is taken, or that do not import."""


class PeerMissing(Exception):
    """A peer cannot be imported; the message says why."""


@functools.cache
def pypi(name: str) -> Any:
    """Import a package from `PEERS` under the name ``pypi_<name>``: ours is called hashring too."""
    file = PEERS / name / "__init__.py"
    if not file.exists():
        raise PeerMissing(f"{file} is missing: run `make bench`, which fetches it")
    spec = importlib.util.spec_from_file_location(
        f"pypi_{name}", file, submodule_search_locations=[str(file.parent)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except (SyntaxError, ImportError) as error:
        raise PeerMissing(f"{name} does not import: {type(error).__name__}: {error}") from error
    return module


class _NoGroup:
    """As much of a tooz coordinator as a Partitioner without a group asks for."""

    def __init__(self, member: str) -> None:
        self._member_id = member

    def get_members(self, group_id: bytes) -> "_NoGroup":
        return self

    def get(self, timeout: float | None = None) -> tuple[()]:
        return ()

    def watch_join_group(self, group_id: bytes, callback: Any) -> None: ...
    def watch_leave_group(self, group_id: bytes, callback: Any) -> None: ...


def _partitioner(kind: Any, ring: Any, member: str) -> Any:
    # The ring is put in whole: a Partitioner that adds 10,000 members one by one sorts tooz's
    # ring 10,000 times. This favours tooz.
    partitioner = kind(_NoGroup(member), b"group")
    partitioner.ring = ring
    return partitioner


@dataclasses.dataclass(frozen=True)
class Contender:
    """One way to ask. `build` gives the ring that the other functions are handed.

    Attributes:
        name: as the tables show it.
        build: members -> ring.
        owned: ring, member -> a function from keys to that member's keys.
        one: ring -> a function from one key to its owner; None where there is no such call.
        keys: what the keys are turned into beforehand, outside the measured time.
        batch: False where Python loops over the keys.
    """

    name: str
    build: Callable[[list[str]], Any]
    owned: Callable[[Any, str], Callable[[Any], Any]] | None
    one: Callable[[Any], Callable[[Any], Any]] | None = None
    keys: Callable[[list[str]], Any] = lambda keys: keys
    one_key: Callable[[str], Any] = lambda key: key
    batch: bool = False


def _loop(get: Callable[[Any], Any], mine: Any) -> Callable[[Any], list[Any]]:
    return lambda keys: [key for key in keys if get(key) == mine]


def _tooz_owned(ring: Any, member: str) -> Callable[[Any], list[Any]]:
    belongs = _partitioner(tooz.partitioner.Partitioner, ring, member).belongs_to_self
    return lambda keys: [key for key in keys if belongs(key)]


class MMH3Bisect:
    """What a programmer writes by hand: 160 points a member, mmh3, bisect."""

    def __init__(self, members: list[str]) -> None:
        points = sorted(
            (mmh3.hash64(f"{member}-{number}", signed=False)[0], member)
            for member in members
            for number in range(160)
        )
        self._points = [point for point, _ in points]
        self._owners = [member for _, member in points]
        self._owners.append(self._owners[0])

    def owner(self, key: str) -> str:
        point = mmh3.hash64(key, signed=False)[0]
        return self._owners[bisect.bisect(self._points, point)]


class JumpNumbers:
    """jump-consistent-hash knows numbers alone: members by index, keys by mmh3."""

    def __init__(self, members: list[str]) -> None:
        self.members = list(members)

    def owner(self, key: str) -> str:
        number = jump.hash(mmh3.hash64(key, signed=False)[0], len(self.members))
        return self.members[number]


CONTENDERS = [
    Contender(TOUCH, lambda members: None, lambda ring, member: _floors.touch_all, batch=True),
    Contender(HASH, lambda members: None, lambda ring, member: _engine.hash_all, batch=True),
    Contender(
        OURS,
        hashring.HashRing,
        lambda ring, member: functools.partial(ring.owned, member),
        lambda ring: ring.owner,
        batch=True,
    ),
    Contender(
        OURS_KEYS,
        hashring.HashRing,
        lambda ring, member: functools.partial(ring.owned, member),
        None,
        keys=hashring.Keys,
        batch=True,
    ),
    Contender(
        COMPAT,
        compat.HashRing,
        lambda ring, member: _partitioner(compat.Partitioner, ring, member).owned_by_self,
        lambda ring: ring.get_nodes,
        one_key=str.encode,
        batch=True,
    ),
    Contender(
        TOOZ,
        tooz.hashring.HashRing,
        _tooz_owned,
        lambda ring: ring.get_nodes,
        one_key=str.encode,
    ),
    Contender(
        "uhashring: get_node",
        lambda members: uhashring.HashRing(nodes=members),
        lambda ring, member: _loop(ring.get_node, member),
        lambda ring: ring.get_node,
    ),
    Contender(
        "hashring from PyPI: get_node",
        lambda members: pypi("hashring").HashRing(members),
        lambda ring, member: _loop(ring.get_node, member),
        lambda ring: ring.get_node,
    ),
    Contender(
        "jump-consistent-hash on mmh3",
        JumpNumbers,
        lambda ring, member: _loop(ring.owner, member),
        lambda ring: ring.owner,
    ),
    Contender(
        "clandestined: find_node",
        lambda members: clandestined.RendezvousHash(nodes=list(members)),
        lambda ring, member: _loop(ring.find_node, member),
        lambda ring: ring.find_node,
    ),
    Contender(
        "by hand: mmh3 and bisect",
        MMH3Bisect,
        lambda ring, member: _loop(ring.owner, member),
        lambda ring: ring.owner,
    ),
]
BY_NAME = {contender.name: contender for contender in CONTENDERS}


def members(count: int) -> list[str]:
    """Return the ids of `count` members."""
    return [f"agent-{number:05d}.example.org" for number in range(count)]


def absent_peers() -> dict[str, str]:
    """Return the peers that should be here but cannot run, each with its own error."""
    absent = {}
    for name in ("hashring", "hash_ring"):
        try:
            pypi(name)
        except PeerMissing as error:
            absent[name] = str(error)
    return absent
