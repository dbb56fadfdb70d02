"""Whether an etcd went back in time, and for how long it surely has not.

A cluster that is rebuilt, or restored from a snapshot, forgets what was confirmed since. Clients
are not told. What they can know, and what this module makes of it:

* Who goes back must stop first, and begins another *life*: another cluster, or another term of a
  leader, or a log that is shorter than it was.
* The store keeps a *mark*: the life in which it was written, a random name, and for how long the
  writer knew the store by then. Where the mark is missing or of another life, whoever sees it
  writes a new one. So a mark of the present life says that nothing was forgotten since then.
* Nobody's clock is compared with another's: each counts from its own first sight of a mark, and
  adds what the mark says.

A leader that is elected begins another term as well, although nothing is forgotten then: for one
ttl nobody gains anything, which costs nobody what he holds.

It knows marks and time as values, and no connection.
"""

from __future__ import annotations

import dataclasses
import json
import math
import secrets

__all__ = ["Life", "Mark", "Memory"]


@dataclasses.dataclass(frozen=True)
class Life:
    """One life of a store.

    Attributes:
        cluster: the cluster's number.
        term: of the leader.
        index: of the log, as it was told at some time of this life.
    """

    cluster: int
    term: int
    index: int = 0

    def continues(self, mark: Life) -> bool:
        """Return whether a mark of that life is of this one.

        >>> Life(1, 5, 90).continues(Life(1, 5, 80)), Life(1, 5, 9).continues(Life(1, 5, 80))
        (True, False)
        """
        same = (self.cluster, self.term) == (mark.cluster, mark.term)
        return same and (not self.index or self.index >= mark.index)


@dataclasses.dataclass(frozen=True)
class Mark:
    """What the store keeps of its own past.

    Attributes:
        life: in which it was written.
        name: a random one.
        age: seconds for which the writer knew that nothing was forgotten.
    """

    life: Life
    name: str
    age: float

    def encoded(self) -> bytes:
        """Return it as a key's value."""
        life = self.life
        return json.dumps([life.cluster, life.term, life.index, self.name, self.age]).encode()

    @classmethod
    def decoded(cls, data: bytes | None) -> Mark | None:
        """Return what a value says; ``None`` for one that is missing or not ours.

        >>> Mark.decoded(Mark(Life(1, 2, 3), "x", 0.5).encoded())
        Mark(life=Life(cluster=1, term=2, index=3), name='x', age=0.5)
        >>> Mark.decoded(b"{}") is None
        True
        """
        try:
            cluster, term, index, name, age = json.loads(data or b"null")
        except (ValueError, TypeError, RecursionError):
            return None
        whole = all(isinstance(each, int) for each in (cluster, term, index))
        if not whole or not isinstance(name, str) or not isinstance(age, int | float):
            return None
        return cls(Life(cluster, term, index), name, float(age)) if 0 <= age < math.inf else None


class Memory:
    """What one driver knows of the store's past.

    Attributes:
        newest: the newest revision of which the store has told.
    """

    def __init__(self) -> None:
        self.newest = 0
        self._cluster = 0
        self._name: str | None = None
        self._since = math.inf
        self._told = 0.0

    def went_back(self, life: Life, revision: int) -> bool:
        """Note what an answer says; return whether the store is behind what it told before."""
        back = bool(self._cluster) and (life.cluster != self._cluster or revision < self.newest)
        self._cluster = life.cluster
        self.newest = revision if back else max(revision, self.newest)
        return back

    def saw(self, mark: Mark, now: float) -> None:
        """Take in a mark of the present life.

        Args:
            mark: as it was read.
            now: after the answer, in seconds on the boot-time clock.
        """
        if mark.name != self._name:
            self._name, self._since = mark.name, now
        self._told = mark.age

    def age(self, now: float) -> float:
        """Return the seconds for which the store has surely forgotten nothing."""
        return max(0.0, now - self._since, self._told)

    def older(self, mark: Mark, now: float, enough: float) -> Mark | None:
        """Return the mark that tells others all they need; ``None`` where it does already.

        Args:
            mark: that the store has.
            now: in seconds on the boot-time clock.
            enough: seconds; others need not be told of more.
        """
        age = self.age(now)
        if not mark.age < enough <= age:
            return None
        return dataclasses.replace(mark, age=math.floor(1000 * age) / 1000)

    @staticmethod
    def anew(life: Life) -> Mark:
        """Return a mark for a store that begins to remember now."""
        return Mark(life, secrets.token_hex(8), 0.0)
