"""``postgresql://``: processes of many hosts that share a PostgreSQL.

Each group is some rows of one table (:mod:`.tables`). What must hold, and what keeps it:

* Time is the server's (``clock_timestamp()``). A lease ends when its row is removed, not when some
  reader's look at the clock says so: who reads removes first what ran out. A heartbeat changes the
  row itself, so the one of the two that comes second finds what the first has left.
* Writes keep their order: a new connection ends the one before (:mod:`.server`).
* PostgreSQL forgets where a replica takes over that lacks the last commits, where an older copy
  is restored, and in a crash without ``fsync``. In each case it is another server, by its system
  identifier, its timeline or its start, or rows were written by somebody else. The table keeps
  which server was seen last and since when, and :attr:`Reading.memory_age` is the time since.
* A record that the store lost although it had confirmed it is written again before a heartbeat
  is confirmed.
* A clock that was set forward would end leases early. Each driver compares the server's time with
  its own boot-time clock, and no heartbeat counts on a server whose clock jumped before the memory
  is young. Where all leases ran out at once, the memory is young as well.

This module knows no ring, no view and nothing of the hand-off.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import threading
from collections.abc import Iterator, Sequence

from hashring.clock import boottime
from hashring.driver import (
    DriverURL,
    Reading,
    Traffic,
    check_names,
    check_record,
    incarnation_of,
)
from hashring.errors import MissingDependency, StoreUnavailable, StoreUnusable

try:
    from psycopg import pq
except ImportError as _error:  # psycopg, or the libpq that it needs
    raise MissingDependency("the postgresql:// driver", "psycopg[binary]", "postgresql") from _error

from .._net import left, tell_limits, within_the_lease
from .._server_clock import ServerClock
from .address import OPTIONS
from .groups import Group, Own, digest, taken
from .link import Value
from .looking import LookingOn
from .server import Facts, Server

__all__ = ["PostgreSQLDriver"]

_log = logging.getLogger(__name__)

if pq.version() < 140000:  # the first with pipelines
    raise MissingDependency(
        "the postgresql:// driver (libpq 14 or later)", "psycopg[binary]", "postgresql"
    )

_XID_BITS = 48
"""The room for a transaction's number: three years of three million a second."""

_Statements = list[tuple[str, Sequence[Value]]]


class PostgreSQLDriver(LookingOn):
    """Groups as rows of a table.

    The URL's hosts are tried in order, for the one that is the primary. What the URL leaves out
    libpq takes from its environment (``PGSERVICE``, ``PGPASSWORD``) and files (``~/.pgpass``).

    Example:
        >>> from hashring.driver import load
        >>> load("postgresql://agent:secret@one,two/coordination", ttl=10.0).url
        DriverURL('postgresql://agent:***@one,two/coordination')
    """

    promise = "processes of many hosts; tells when it forgot: in a failover, a restore, a restart"
    epochs = "timeline and transaction; falls only where an old copy or a dump is put in its place"
    interrupts = True
    options = OPTIONS

    def __init__(self, url: DriverURL, *, ttl: float) -> None:
        super().__init__(url, ttl=ttl)
        self.settings = within_the_lease(self)
        self.traffic = Traffic()
        self._server = Server(self)
        self._server.on_heard = self._heard
        self._statements = self._server.statements
        self._writing = threading.Lock()
        self._guard = threading.Lock()  # of what is below
        self._own: dict[tuple[str, str], Own] = {}
        self._groups: dict[str, Group] = {}
        self._by_channel: dict[str, Group] = {}
        self._numbers = itertools.count(1)  # of its writes
        self._interrupted = False
        self._clock = ("", ServerClock(self.ttl))

    # -- life

    def open(self) -> None:
        """Connect; make the table where it is missing.

        Raises:
            StoreUnusable: wrong password, no table and no right to make it, a connection pooler
                in between, or a server older than 13.
            StoreUnavailable: no primary was reached in time.
        """
        if self._server.is_open:
            self._server.open()
            return
        self._server.makes_table = True
        tell_limits(self)
        self._server.open()
        if self._server.facts.writes:
            try:
                self._server.call("tidying", lambda facts: [(self._statements.tidy, ())])
            except StoreUnavailable as error:
                _log.debug("%s: rows of groups long gone stay for now: %s", self.url, error)

    def close(self) -> None:
        """End the connection. Leases run on."""
        self._server.close()

    # -- the lease

    def join(self, group: str, member: str, record: bytes) -> None:
        """See :meth:`hashring.driver.Driver.join`."""
        check_names(group, member)
        check_record(record)
        self._refuse_a_watcher()
        deadline = boottime() + self.settings["timeout"]
        with self._writes(deadline):
            self._join(group, member, record, deadline)

    def _join(self, group: str, member: str, record: bytes, deadline: float) -> None:
        state, token, incarnation = self._group(group), self.token, _spelled(record)
        sequence = next(self._numbers)

        def ask(facts: Facts) -> _Statements:
            values = (
                state.key, digest(member), token, incarnation, member.encode(), sequence, record,
                self.ttl, state.channel,
            )  # fmt: skip
            return [*self._mending(facts, state, forget=False), (self._statements.join, values)]

        began = boottime()
        doing = f"join of {member!r}"
        *_, ((done, other, rest, _),) = self._server.call(doing, ask, deadline=deadline)
        if not done:
            until = f"its lease runs for {rest:.1f} s more" if rest is not None else ""
            raise self.member_exists(
                group, member, None if other is None else other.decode(), until
            )
        with self._guard:
            own = Own(token, incarnation, sequence, record, began + self.ttl)
            self._own[group, member] = own

    def seize(self, group: str, member: str, record: bytes) -> None:
        """See :meth:`hashring.driver.Driver.seize`."""
        check_names(group, member)
        check_record(record)
        self._refuse_a_watcher()
        deadline = boottime() + self.settings["timeout"]
        state, token, incarnation = self._group(group), self.token, _spelled(record)
        with self._writes(deadline):
            sequence = next(self._numbers)

            def ask(facts: Facts) -> _Statements:
                values = (
                    state.key, digest(member), token, incarnation, sequence, record, self.ttl,
                    state.channel,
                )  # fmt: skip
                mending = self._mending(facts, state, forget=False)
                return [*mending, (self._statements.seize, values)]

            began = boottime()
            doing = f"seizing the lease of {member!r}"
            *_, ((done, _),) = self._server.call(doing, ask, deadline=deadline)
            if not done:
                raise self.lease_lost((group, member))
            with self._guard:
                own = Own(token, incarnation, sequence, record, began + self.ttl)
                self._own[group, member] = own

    def heartbeat(self) -> None:
        """See :meth:`hashring.driver.Driver.heartbeat`.

        A record that the store has lost, though it had confirmed it, is written again first.
        """
        self._server.check_open()
        deadline = boottime() + self.settings["timeout"]
        with self._guard:
            own = dict(self._own)
        lost = self._renew({key: each for key, each in own.items() if not each.lost}, deadline)
        with self._guard:
            for key in lost:
                own[key].lost = True  # it stays so, also if the server's clock is set back
            # What the other thread left or joined anew meanwhile is not lost.
            gone = [key for key in own if own[key].lost and self._own.get(key) is own[key]]
        if gone:
            raise self.lease_lost(*sorted(gone))

    def _renew(self, leases: dict[tuple[str, str], Own], deadline: float) -> list[tuple[str, str]]:
        """Renew leases; return those that were not there to be renewed."""
        lost = []
        while leases:
            latest, began = self._latest(), boottime()
            beats = self._beats(leases, latest)
            answers = self._server.call("heartbeat", lambda facts, b=beats: b, deadline=deadline)  # type: ignore[misc]
            found = [answer[0] for answer in answers[-len(leases) :]]
            late = any(sequence is None and now > latest for sequence, now, _ in found)
            if self._jumped(found[-1][1], began) or late:
                self._forget_all(deadline)
                left(deadline)
                continue
            behind, early = {}, set()
            for (key, own), (sequence, _, is_seized) in zip(leases.items(), found, strict=True):
                if sequence is None:
                    lost.append(key)
                    if began < own.until and not own.left and not is_seized:
                        early.add(key[0])
                elif sequence < own.sequence:
                    behind[key] = own
                else:
                    own.until = began + self.ttl
            for group in early:
                # By our clock they should live on: somebody removed them, or the clock jumped.
                self._mend(group, self._group(group), deadline, forget=True)
            for (group, member), own in behind.items():
                with self._writes(deadline):
                    # By now the other thread may have written a newer one, or left.
                    if self._own.get((group, member)) is own:
                        self._publish(group, member, own.incarnation, own.record, deadline)
            leases = behind
        return lost

    def _beats(self, leases: dict[tuple[str, str], Own], latest: float) -> _Statements:
        """Return the statements that renew leases, those of several under their groups' locks.

        What removes leases locks several rows at once, and so would these.
        """
        beats: _Statements = []
        if len(leases) > 1:
            locks = {self._group(group).lock for group, _ in leases}
            beats += [(self._statements.share, (number,)) for number in sorted(locks)]
        for (group, member), own in leases.items():
            key, id_ = self._group(group).key, digest(member)
            values = (key, id_, own.token, own.incarnation, self.ttl, latest)
            beats.append((self._statements.heartbeat, values))
        return beats

    def leave(self, group: str, member: str) -> None:
        """See :meth:`hashring.driver.Driver.leave`."""
        check_names(group, member)
        self._server.check_open()
        with self._guard:
            if (own := self._own.pop((group, member), None)) is not None:
                own.left = True
        state, deadline = self._group(group), boottime() + self.settings["timeout"]
        values = (state.key, digest(member), self.token, state.channel)
        statements = [(self._statements.lock, (state.lock,)), (self._statements.leave, values)]
        with self._writes(deadline):
            self._server.call(f"leave of {member!r}", lambda facts: statements, deadline=deadline)

    # -- records

    def publish(self, group: str, member: str, record: bytes) -> int:
        """See :meth:`hashring.driver.Driver.publish`."""
        check_names(group, member)
        check_record(record)
        self._refuse_a_watcher()
        deadline = boottime() + self.settings["timeout"]
        with self._writes(deadline):
            return self._publish(group, member, _spelled(record), record, deadline)

    def _publish(
        self, group: str, member: str, incarnation: bytes | None, record: bytes, deadline: float
    ) -> int:
        state, sequence = self._group(group), next(self._numbers)
        values = (
            state.key, digest(member), self.token, incarnation, sequence, record, state.channel
        )  # fmt: skip
        statements: _Statements = [
            (self._statements.lock, (state.lock,)),
            (self._statements.publish, values),
        ]
        timelines = []

        def ask(facts: Facts) -> _Statements:
            timelines.append(facts.timeline)
            return statements

        *_, ((done, _, number),) = self._server.call(
            f"publish of {member!r}", ask, deadline=deadline
        )
        if not done:
            raise self.lease_lost((group, member))
        with self._guard:
            if (own := self._own.get((group, member))) is not None:
                own.sequence, own.record = sequence, record
        # A replica that took over may give out numbers again that the primary before it gave.
        return (timelines[-1] << _XID_BITS) | int(number)

    def read(self, group: str) -> Reading:
        """See :meth:`hashring.driver.Driver.read`."""
        check_names(group)
        deadline = boottime() + self.settings["timeout"]
        state = self._group(group)
        while True:
            state.heard.clear()
            began = boottime()
            (rows,) = self._server.call(
                "read",
                lambda facts: [(self._statements.read, (state.key,))],
                deadline=deadline,
            )
            facts = self._server.facts
            found = taken(rows, facts.identity)
            ended = boottime()
            if self._jumped(found.now, began) and facts.writes:
                self._forget_all(deadline)
            elif not facts.writes or not found.amiss:
                state.version = found.version
                state.ends = ended + found.next_end
                return Reading(found.records, found.age)
            else:
                self._mend(group, state, deadline, forget=found.broken)
            left(deadline)

    def wait(self, group: str, timeout: float) -> None:
        """See :meth:`hashring.driver.Driver.wait`. A lease that runs out is a change, too."""
        check_names(group)
        self._server.check_open()
        state, end = self._group(group), boottime() + timeout
        poll, next_look = self.settings["poll"], boottime()
        if self._server.listens(state.channel):
            next_look += poll
        while self._server.is_open and (now := boottime()) < end:
            if self._interrupted:
                self._interrupted = False
                return
            if state.heard - {state.version}:
                return
            if now >= min(next_look, state.ends):
                try:
                    if self._look(state, end):
                        return
                except StoreUnavailable:
                    # It was neither close() that cut us off, nor the end of the time.
                    if self._server.is_open and boottime() < end:
                        raise
                    return
                next_look = boottime() + poll
            self._server.pause(min(next_look, state.ends, end))

    def interrupt(self) -> None:
        """See :meth:`hashring.driver.Driver.interrupt`."""
        self._interrupted = True
        self._server.wake()

    def _look(self, state: Group, end: float) -> bool:
        """Return whether the group changed; listen for its changes first."""
        deadline = min(boottime() + self.settings["timeout"], max(end, boottime() + 0.1))
        if not self._server.listens(state.channel):
            self._server.listen(state.channel, deadline)
        (((version, rest),),) = self._server.call(
            "wait",
            lambda facts: [(self._statements.look, (state.key,))],
            deadline=deadline,
        )
        state.ends = math.inf if rest is None else boottime() + rest
        return version != state.version or (rest is not None and rest <= 0)

    # -- what every operation shares

    def _group(self, group: str) -> Group:
        with self._guard:
            if group not in self._groups:
                state = Group(self._statements.table, group)
                self._groups[group] = self._by_channel[state.channel] = state
            return self._groups[group]

    def _heard(self, channel: str, payload: str) -> None:
        state = self._by_channel.get(channel)
        if state is not None and payload.isdigit():
            state.heard.add(int(payload))

    @contextlib.contextmanager
    def _writes(self, deadline: float) -> Iterator[None]:
        """Keep this driver's writes in the order of their numbers."""
        if not self._writing.acquire(timeout=max(0.0, deadline - boottime())):
            raise StoreUnavailable(f"{self.url}: an earlier write took all the time there was")
        try:
            yield
        finally:
            self._writing.release()

    def _refuse_a_watcher(self) -> None:
        self._server.check_open()
        facts = self._server.facts
        if not facts.writes:
            table = self._statements.table
            raise StoreUnusable(
                f"{self.url}: the role {facts.role} may look at groups, and not join them: GRANT "
                f'SELECT, INSERT, UPDATE, DELETE ON {table} TO "{facts.role}"'
            )

    def _mending(self, facts: Facts, state: Group, *, forget: bool) -> _Statements:
        """Return the statements after which a group shows who lives, and what was forgotten."""
        make = self._statements
        return [
            (make.lock, (state.lock,)),
            (make.know_store, (facts.identity,)),
            (make.know_group, (state.key, state.name, forget)),
            (make.shorten, (state.key,)),
            (make.reap, (state.key, state.channel)),
        ]

    def _mend(self, group: str, state: Group, deadline: float, *, forget: bool) -> None:
        self._server.call(
            f"removing what ran out in {group!r}",
            lambda facts: self._mending(facts, state, forget=forget),
            deadline=deadline,
        )

    def _forget_all(self, deadline: float) -> None:
        """Make the memory of every group that this driver knows begin anew."""
        with self._guard:
            groups = dict(self._groups)
        for group, state in groups.items():
            self._mend(group, state, deadline, forget=True)

    # -- the server's clock

    def _latest(self) -> float:
        """Return the latest that the server's time may be now."""
        with self._guard:
            identity, clock = self._clock
            known = (
                clock.latest(boottime()) if identity == self._server.facts.identity else -math.inf
            )
        return known if known > -math.inf else math.inf

    def _jumped(self, now: float, began: float) -> bool:
        """Note the server's time; return whether its clock gained too much for leases to hold."""
        ended = boottime()
        with self._guard:
            identity = self._server.facts.identity
            if self._clock[0] != identity:
                self._clock = (identity, ServerClock(self.ttl))
            gained = self._clock[1].gained(now, began, ended)
        if gained:
            _log.warning(
                "%s: the server's clock gained %.2f s on ours within a lease of %g s: it was "
                "set forward, or runs more than 10%% fast. Waiting one ttl",
                self.url,
                gained,
                self.ttl,
            )
        return bool(gained)


def _spelled(record: bytes) -> bytes | None:
    incarnation = incarnation_of(record)
    return None if incarnation is None else incarnation.encode()
