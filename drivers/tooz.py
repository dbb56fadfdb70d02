"""``tooz+SCHEME://…``: groups on a backend of tooz, where there is no driver of our own.

tooz promises less than a lease: its ``file`` members live by the wall clock, its ``zookeeper``
members as long as a thread pings, and a heartbeat there need not have renewed anything. So the
backend is used as a reliable board alone, and the lease is kept by watching the board:

* A member's entry carries a number that grows with every write, and a heartbeat is a write. A
  reader takes an entry for dead once it has seen the *same* number for ``ttl`` seconds on its own
  clock. No clock is ever compared with another, and nothing but the backend's storage is trusted.
* A heartbeat returns only if it was done before anybody could have taken its entry for dead:
  within 0.95 ttl of the start of the last write that succeeded. The rest is for clocks that
  do not run at quite the same rate. Later, the lease counts as lost even if the entry is there.
* The backend's own liveness, three times ``ttl``, only clears away what dead members leave behind.
* An entry has a name of its own, which no other process uses, so nobody can overwrite another's.
  Two that want the same member's name write a candidacy first and look for others then: whoever
  sees an older member or a candidate with a smaller token withdraws (Lamport's bakery).
* A write whose outcome is unknown ends its entry's name: the next write makes another entry, with
  a larger number, and readers take the largest. So it cannot come back over a later one.

The price: a reader that is new to a group takes what dead members left for living ones, for one
``ttl``. This module knows nothing of what is in a record but its incarnation.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, TypeVar
from urllib.parse import quote, unquote

from hashring.clock import boottime
from hashring.driver import (
    COMMON_OPTIONS,
    Driver,
    DriverURL,
    Option,
    Reading,
    check_names,
    check_node_path,
    check_record,
    incarnation_of,
)
from hashring.errors import (
    BadURL,
    HashringError,
    LeaseLost,
    MemberExists,
    MissingDependency,
    StoreUnavailable,
    StoreUnusable,
)

from ._net import tell_limits, within_the_lease

try:
    from tooz import ToozError, coordination
except ImportError as error:
    raise MissingDependency("a tooz+…:// driver", "tooz", "tooz") from error

__all__ = ["ToozDriver"]

_T = TypeVar("_T")

_SURE = 0.95  # the part of ttl for which a member trusts its own entry; readers wait the whole
_LINGER = 3.0  # the backend's own timeout, in leases: for the remains of dead members
_SWEEP = 4  # remains of dead members to remove at one reading, at most
_FOREVER = 10 * 365 * 86_400  # seconds: for the file backend, whose timeout is on the wall clock

_LONGEST = 20.0  # seconds: half of ZooKeeper's default maxSessionTimeout

_FORGETS = {
    "redis": "redis://",
    "memcached": "memcached://",
    "ipc": "memory:// or sqlite://",
}
_NO_GROUPS = ("kubernetes", "mysql", "postgresql")
_DURABLE = ("etcd3+http", "etcd3+https", "file", "kazoo", "zookeeper")


@dataclasses.dataclass(frozen=True)
class _Entry:
    """One entry on the board, as it was read.

    Attributes:
        name: its name there: the member, the writer's token, and a number.
        member: whose it is.
        token: the driver that wrote it.
        joined: how many had the member's name before, as far as the writer knew.
        number: grows with every write of the same token.
        settled: not a candidate any more.
        ttl: the writer's lease in seconds.
        record: the member's record.
        ours: it has the form of ours; a stranger's is nothing for us to remove.
    """

    name: str
    member: str
    token: str
    joined: int
    number: int
    settled: bool
    ttl: float
    record: bytes
    ours: bool = True

    @property
    def rank(self) -> tuple[int, int]:
        """Of two entries of one member, the one with the higher rank is the newer."""
        return self.joined, self.number


class _Board:
    """A group's entries as one driver has seen them, and since when."""

    def __init__(self) -> None:
        self.since: dict[str, tuple[int, float]] = {}  # by name: the number, and its first sight
        self.shown: dict[str, bytes] = {}
        self.remains: list[str] = []  # names of entries that have been dead for long

    def living(self, entries: list[_Entry], asked: float, answered: float) -> list[_Entry]:
        """Return the entries that are not dead, of each token and member the newest.

        Args:
            entries: what the backend showed.
            asked: when it was asked, on the boot-time clock.
            answered: when it had answered.
        """
        self.remains = []
        seen: dict[str, tuple[int, float]] = {}
        newest: dict[tuple[str, str], _Entry] = {}
        for entry in entries:
            number, first = self.since.get(entry.name, (None, 0.0))
            # The first sight counts from the answer, and the last from the question.
            seen[entry.name] = (
                (number, first) if number == entry.number else (entry.number, answered)
            )
            still = asked - seen[entry.name][1]
            if still >= entry.ttl:
                if entry.ours and still >= entry.ttl * _LINGER:
                    self.remains.append(entry.name)
                continue
            held = newest.get((entry.member, entry.token))
            if held is None or held.rank < entry.rank:
                newest[entry.member, entry.token] = entry
        self.since = seen
        return list(newest.values())


class _Seat:
    """A tooz coordinator under a name of its own: the one writer of one entry."""

    def __init__(self, coordinator: Any, name: str) -> None:
        self.coordinator = coordinator
        self.name = name
        self.unsure = False  # a write under this name may land at any time
        self.kept = boottime()  # when the backend was last asked to keep the entry for longer


class _Lease:
    """Our membership in one group: what was written last, and until when it surely stands."""

    def __init__(self, joined: int, incarnation: str | None, record: bytes) -> None:
        self.joined = joined
        self.incarnation = incarnation
        self.record = record
        self.settled = False
        self.lost = False
        self.sure_until = 0.0
        self.seat: _Seat | None = None
        self.spare: _Seat | None = None


class ToozDriver(Driver):
    """Groups on a tooz backend that forgets nothing: ``file``, ``etcd3+http``, ``zookeeper``.

    The URL is tooz's own with ``tooz+`` before it. Backends that can forget (``redis``,
    ``memcached``, ``ipc``) are refused, and so are those without groups (``mysql``,
    ``postgresql``, ``kubernetes``: tooz has only locks there).
    """

    promise = "leases kept by watching a tooz backend's groups; forgets only if the backend does"
    options: ClassVar[tuple[Option, ...]] = (
        Option("poll", float, 0.2, "seconds between two looks at the group while waiting"),
        Option("api_version", str, None, "etcd: the gateway's version; default: ask the server"),
        Option("ca_cert", str, None, "etcd: file with the authorities to trust"),
        Option("cert_cert", str, None, "etcd: file with our own certificate"),
        Option("cert_key", str, None, "etcd: file with its key"),
        Option("namespace", str, None, "zookeeper: the node under which tooz keeps everything"),
        Option("use_ssl", str, None, "zookeeper: encrypt"),
        Option("verify_certs", str, None, "zookeeper: check the servers' certificates"),
        Option("ca", str, None, "zookeeper: file with the authorities to trust"),
        Option("certfile", str, None, "zookeeper: file with our own certificate"),
        Option("keyfile", str, None, "zookeeper: file with its key"),
        Option("keyfile_password", str, None, "zookeeper: the key's password", secret=True),
    )
    _reader: Any
    _OURS = frozenset({"poll", *(option.name for option in COMMON_OPTIONS)})

    def __init__(self, url: DriverURL, *, ttl: float) -> None:
        super().__init__(url, ttl=ttl)
        self._backend = url.scheme.partition("+")[2]
        if self._backend in _FORGETS:
            raise BadURL(
                f"{url}: tooz's {self._backend} backend can forget its members and does not say "
                f"so; use our own driver: {_FORGETS[self._backend]}"
            )
        if self._backend in _NO_GROUPS:
            raise BadURL(
                f"{url}: tooz's {self._backend} backend has locks, but no groups and no members; "
                f"of tooz's backends these have what we need: {', '.join(_DURABLE)}"
            )
        if self._backend not in _DURABLE:
            raise BadURL(
                f"{url}: not known to keep what it is given; of tooz's backends these do: "
                f"{', '.join(f'tooz+{name}' for name in _DURABLE)}"
            )
        if self._backend != "file":
            check_node_path(url)
        if self._backend in {"kazoo", "zookeeper"} and self.ttl > _LONGEST:
            raise BadURL(
                f"{url}: a ttl of {self.ttl:g} s is too long: tooz does not tell how long a "
                f"session the servers grant, and by default that is at most {2 * _LONGEST:g} s; "
                "use zookeeper://"
            )
        self.settings = within_the_lease(self)
        self._threaded = self._backend in {"kazoo", "zookeeper"}  # it has threads of its own
        self._opened_in = os.getpid()
        self._begin()

    # -- the life of a driver

    def open(self) -> None:
        """See :meth:`hashring.driver.Driver.open`."""
        forked = self._opened_in != os.getpid()
        if not self._closed.is_set() and not forked:
            return
        if forked:
            self._begin()
        self._opened_in = os.getpid()
        self._closed.clear()
        tell_limits(self)
        with self._reported("connecting"):
            try:
                self._reader = self._coordinator(f"!{self.token}!", self._deadline())
            except BaseException:
                self._closed.set()
                raise

    def _begin(self) -> None:
        """Make what belongs to one process: locks, and what is known of leases and of groups."""
        self._closed = threading.Event()
        self._closed.set()
        self._writing = threading.Lock()
        self._reading = threading.Lock()
        self._seeing = threading.Lock()
        self._leases: dict[tuple[str, str], _Lease] = {}
        self._boards: dict[str, _Board] = {}
        self._reader = None
        self._number = 0
        self._names = 0

    def close(self) -> None:
        """See :meth:`hashring.driver.Driver.close`. Our entries stay, and die with time."""
        if self._closed.is_set():
            return
        self._closed.set()
        if self._opened_in != os.getpid():
            return  # the coordinators and their threads are the parent's
        with self._writing, self._reading:
            for lease in self._leases.values():
                for seat in (lease.seat, lease.spare):
                    if seat is not None:
                        self._abandon(seat.coordinator)
                lease.seat = lease.spare = None
                lease.lost = True
            self._abandon(self._reader)
            self._reader = None
            self._boards.clear()

    def join(self, group: str, member: str, record: bytes) -> None:
        """See :meth:`hashring.driver.Driver.join`."""
        check_names(group, member)
        check_record(record)
        deadline = self._deadline()
        with self._locked(self._writing, deadline), self._reported("joining"):
            incarnation = incarnation_of(record)
            lease = self._leases.get((group, member))
            if lease is not None and not lease.lost:
                if lease.settled and not self._someone_may_think_us_dead(lease):
                    if lease.incarnation != incarnation:
                        raise self._exists(group, member)
                    lease.record = record
                    self._write(group, member, lease, deadline)
                    if not lease.lost:
                        return
                self._withdraw(group, lease, deadline)
            self._settle(group, member, record, deadline)

    def _settle(self, group: str, member: str, record: bytes, deadline: float) -> None:
        """Take a member's name, or find that it is taken (Lamport's bakery, see above)."""
        living, rank = self._rivals(group, member, self._reader, deadline)
        if any(rival.settled for rival in living):
            raise self._exists(group, member)
        before = self._leases.pop((group, member), None)
        lease = _Lease(rank + 1, incarnation_of(record), record)
        try:
            while not self._alone(group, member, lease, deadline):
                self._closed.wait(min(self.settings["poll"], 0.05))
                self._check_open()
            lease.settled = True
            self._write(group, member, lease, deadline)
            self._check_stands(lease)
        except BaseException:
            self._withdraw(group, lease, deadline)
            if before is not None:
                self._leases[group, member] = before  # still lost
            raise
        self._leases[group, member] = lease

    def _alone(self, group: str, member: str, lease: _Lease, deadline: float) -> bool:
        """Say that we want a name, and look whether nobody else has it or wants it.

        Raises:
            MemberExists: somebody has it, or wants it with a smaller token.
        """
        # The look follows the write, on the same coordinator: of two candidates, the one that
        # wrote later sees the other.
        self._write(group, member, lease, deadline)
        self._check_stands(lease)
        assert lease.seat is not None
        living, rank = self._rivals(group, member, lease.seat.coordinator, deadline)
        if any(rival.settled or rival.token < self.token for rival in living):
            raise self._exists(group, member)
        alone = not living and rank < lease.joined
        lease.joined = max(lease.joined, rank + 1)
        return alone

    def _check_stands(self, lease: _Lease) -> None:
        if lease.lost:
            raise StoreUnavailable(f"{self.url}: the backend was too slow to begin a lease")

    def _rivals(
        self, group: str, member: str, coordinator: Any, deadline: float
    ) -> tuple[list[_Entry], int]:
        """Return the others that live under a member's name, and the highest rank of all."""
        living, entries = self._look(group, coordinator, deadline)
        rivals = [e for e in living if e.member == member and e.token != self.token]
        ranks = [e.joined for e in entries if e.member == member and e.token != self.token]
        return rivals, max(ranks, default=0)

    def publish(self, group: str, member: str, record: bytes) -> None:
        """See :meth:`hashring.driver.Driver.publish`."""
        check_names(group, member)
        check_record(record)
        deadline = self._deadline()
        with self._locked(self._writing, deadline), self._reported("publishing"):
            lease = self._leases.get((group, member))
            if lease is None or lease.incarnation != incarnation_of(record):
                raise self._lost((group, member))
            lease.record = record
            self._renew(group, member, lease, deadline)
            if lease.lost:
                # Where the backend is away, that is what there is to say.
                self._look(group, self._reader, deadline)
                raise self._lost((group, member))

    def heartbeat(self) -> None:
        """See :meth:`hashring.driver.Driver.heartbeat`."""
        deadline = self._deadline()
        with self._locked(self._writing, deadline), self._reported("the heartbeat"):
            for (group, member), lease in self._leases.items():
                self._renew(group, member, lease, deadline)
            lost = [names for names, lease in self._leases.items() if lease.lost]
            if lost:
                raise self._lost(*lost)

    def leave(self, group: str, member: str) -> None:
        """See :meth:`hashring.driver.Driver.leave`."""
        check_names(group, member)
        deadline = self._deadline()
        with self._locked(self._writing, deadline), self._reported("leaving"):
            lease = self._leases.pop((group, member), None)
            if lease is not None:
                self._withdraw(group, lease, deadline, quietly=False)

    def read(self, group: str) -> Reading:
        """See :meth:`hashring.driver.Driver.read`."""
        check_names(group)
        deadline = self._deadline()
        with self._locked(self._reading, deadline), self._reported("reading"):
            records = self._records(group, deadline)
            self._boards[group].shown = records
            return Reading(dict(records), math.inf)

    def wait(self, group: str, timeout: float) -> None:
        """See :meth:`hashring.driver.Driver.wait`. It looks at the group from time to time."""
        check_names(group)
        self._check_open()
        until = boottime() + timeout
        while boottime() < until:
            with self._locked(self._reading, self._deadline()):
                board = self._boards.get(group)
                try:
                    if board is not None and self._records(group, self._deadline()) != board.shown:
                        return
                except (ToozError, OSError):
                    pass  # the next read reports it
            if self._closed.wait(max(0.0, min(self.settings["poll"], until - boottime()))):
                return

    # -- reading the board

    def _records(self, group: str, deadline: float) -> dict[str, bytes]:
        # Through the coordinator that writes here, where there is one: what it shows is never
        # older than what it has written.
        coordinator = self._reader
        for (other, _), lease in list(self._leases.items()):
            seat = lease.seat
            if other == group and seat is not None:
                coordinator = seat.coordinator
        living, _ = self._look(group, coordinator, deadline)
        newest: dict[str, _Entry] = {}
        for entry in living:
            held = newest.get(entry.member)
            if entry.settled and (held is None or held.rank < entry.rank):
                newest[entry.member] = entry
        return {member: entry.record for member, entry in newest.items()}

    def _look(
        self, group: str, coordinator: Any, deadline: float
    ) -> tuple[list[_Entry], list[_Entry]]:
        """Look at the board through a coordinator: what lives, and all that is there."""
        asked = boottime()
        try:
            shown = self._shown(coordinator, _group_id(group), deadline)
        except coordination.GroupNotCreated:
            shown = {}
        answered = boottime()
        entries = [self._parsed(name, said) for name, said in shown.items()]
        with self._seeing:
            board = self._boards.setdefault(group, _Board())
            living = board.living(entries, asked, answered)
            remains = board.remains[:_SWEEP]
        if self._backend == "file":
            for name in remains:
                self._sweep(group, name, deadline)
        return living, entries

    def _shown(self, coordinator: Any, group: bytes, deadline: float) -> dict[Any, Any]:
        if hasattr(coordinator, "get_members_with_capabilities"):
            whole: dict[Any, Any] = self._done(
                deadline, coordinator.get_members_with_capabilities, group
            )
            return whole
        shown = {}  # tooz before 9 has no such call
        for member in self._done(deadline, coordinator.get_members, group):
            with contextlib.suppress(coordination.MemberNotJoined):
                shown[member] = self._done(
                    deadline, coordinator.get_member_capabilities, group, member
                )
        return shown

    def _parsed(self, shown: bytes | str, said: Any) -> _Entry:
        name = shown.decode(errors="replace") if isinstance(shown, bytes) else shown
        try:
            quoted, token, _ = name.split("!")
            return _Entry(
                name=name,
                member=unquote(quoted),
                token=token,
                joined=int(said["joined"]),
                number=int(said["number"]),
                settled=bool(said["settled"]),
                ttl=min(float(said["ttl"]), 86_400.0),
                record=bytes(said["record"]),
            )
        except (ValueError, TypeError, KeyError):
            # A stranger's: it is shown as a member whose record says nothing.
            member = unquote(name.partition("!")[0])
            return _Entry(name, member, name, 0, 0, True, self.ttl, b"", ours=False)

    def _sweep(self, group: str, name: str, deadline: float) -> None:
        """Remove what a dead member left on the file backend, where nothing else does."""
        with contextlib.suppress(ToozError, OSError):
            coordinator = self._coordinator(name, deadline)
            try:
                self._done(deadline, coordinator.leave_group, _group_id(group))
            finally:
                self._abandon(coordinator, deadline)

    # -- writing on it

    def _renew(self, group: str, member: str, lease: _Lease, deadline: float) -> None:
        """Write the lease's record again, unless somebody may have taken us for dead."""
        if not lease.lost and self._someone_may_think_us_dead(lease):
            lease.lost = True
        if lease.lost:
            self._withdraw(group, lease, deadline)
        else:
            self._write(group, member, lease, deadline)

    def _someone_may_think_us_dead(self, lease: _Lease) -> bool:
        return boottime() > lease.sure_until

    def _write(self, group: str, member: str, lease: _Lease, deadline: float) -> None:
        self._number += 1
        said = {
            "joined": lease.joined,
            "number": self._number,
            "settled": lease.settled,
            "ttl": self.ttl,
            "record": lease.record,
        }
        began = boottime()
        try:
            if lease.seat is None or self._backend == "file" or lease.seat.unsure:
                self._move(group, member, lease, said, deadline)
            else:
                self._update(group, lease.seat, said, deadline)
        except (coordination.MemberNotJoined, coordination.GroupNotCreated):
            lease.lost = True
            return
        if lease.sure_until and self._someone_may_think_us_dead(lease):
            lease.lost = True  # it was written too late: a reader may already have given us up
        else:
            lease.sure_until = began + self.ttl * _SURE

    def _update(self, group: str, seat: _Seat, said: dict[str, Any], deadline: float) -> None:
        try:
            if self._backend.startswith("etcd3") and boottime() - seat.kept > self.ttl / 2:
                seat.kept = boottime()
                # Keeps the backend's own lease, which is longer than ours. Where that has run out,
                # tooz begins another and says nothing; but our entry is gone then.
                _as_tooz_errors(seat.coordinator.heartbeat)
            self._done(deadline, seat.coordinator.update_capabilities, _group_id(group), said)
        except (coordination.MemberNotJoined, coordination.GroupNotCreated):
            raise
        except BaseException:
            seat.unsure = True  # it may land at any time from now on
            raise

    def _move(
        self, group: str, member: str, lease: _Lease, said: dict[str, Any], deadline: float
    ) -> None:
        """Write under another name, and only then take the old one away.

        So there is no moment without an entry of ours, also on the file backend, where tooz cannot
        change what a member says of itself.
        """
        old, new = lease.seat, lease.spare
        lease.spare = None
        if new is None:
            self._names += 1
            name = f"{quote(member, safe='')}!{self.token}!{self._names}"
            new = _Seat(self._coordinator(name, deadline), name)
        try:
            self._enter(group, new, said, deadline)
        except BaseException:
            self._abandon(
                new.coordinator, deadline
            )  # whether it is on the board is unknown: never use it
            raise
        lease.seat = new
        if old is not None:
            with contextlib.suppress(ToozError, OSError):
                self._done(deadline, old.coordinator.leave_group, _group_id(group))
                if self._backend == "file" and not old.unsure:
                    lease.spare = old
            if lease.spare is None:
                self._abandon(old.coordinator, deadline)

    def _enter(self, group: str, seat: _Seat, said: dict[str, Any], deadline: float) -> None:
        while True:
            try:
                self._done(deadline, seat.coordinator.join_group, _group_id(group), said)
            except coordination.GroupNotCreated:
                with contextlib.suppress(coordination.GroupAlreadyExist):
                    self._done(deadline, seat.coordinator.create_group, _group_id(group))
            else:
                return

    def _withdraw(
        self, group: str, lease: _Lease, deadline: float, *, quietly: bool = True
    ) -> None:
        """Take our entries off the board."""
        seats = [seat for seat in (lease.seat, lease.spare) if seat is not None]
        lease.seat = lease.spare = None
        gone = (coordination.MemberNotJoined, coordination.GroupNotCreated)
        try:
            for seat in seats[:1]:
                with contextlib.suppress(*(gone if not quietly else (ToozError, OSError))):
                    self._done(deadline, seat.coordinator.leave_group, _group_id(group))
        finally:
            for seat in seats:
                self._abandon(seat.coordinator, deadline)

    # -- tooz

    def _coordinator(self, name: str, deadline: float) -> Any:
        """Return a started coordinator of tooz under a name."""
        options = {
            option: value
            for option, value in self.settings.items()
            if option not in self._OURS and value is not None
        } | self._timeouts()

        def start() -> Any:
            try:
                coordinator = coordination.get_coordinator(
                    self._tooz_url(), name.encode("ascii"), **options
                )
            except ImportError as error:
                raise MissingDependency(
                    f"tooz+{self._backend}://", str(error.name), "tooz"
                ) from error
            try:
                _as_tooz_errors(coordinator.start)
            except BaseException:
                _disconnect(coordinator)
                raise
            return coordinator

        return self._bounded(start, deadline, late=self._abandon)

    def _timeouts(self) -> dict[str, Any]:
        if self._backend == "file":
            # Threads are our own: those of tooz take a second to end.
            return {"executor": "synchronous", "timeout": _FOREVER}
        linger = math.ceil(self.ttl * _LINGER)
        if self._backend.startswith("etcd3"):
            seconds = math.ceil(self.settings["timeout"])
            return {
                "executor": "synchronous",
                "timeout": seconds,
                "membership_timeout": linger,
            }
        return {"timeout": linger}

    def _tooz_url(self) -> str:
        url = self.url
        user = "" if url.user is None else f"{quote(url.user, safe='')}"
        user += "" if url.secret is None else f":{quote(url.secret, safe='')}"
        hosts = ",".join(host if port is None else f"{host}:{port}" for host, port in url.hosts)
        return f"{self._backend}://{user + '@' if user else ''}{hosts}{url.path}"

    def _abandon(self, coordinator: Any, deadline: float = math.inf) -> None:
        """End a coordinator's connections and threads, and leave its entry where it is.

        tooz's own ``stop()`` takes a member out of all groups, and kazoo's ends the session;
        neither has a public way not to. What has not ended by the deadline ends later, alone.
        """

        def stop() -> None:
            coordinator._joined_groups.clear()
            client = getattr(coordinator, "_coord", None)
            if client is not None:
                _cut(client)
            else:
                coordinator.stop()
                _disconnect(coordinator)

        with contextlib.suppress(ToozError, OSError):
            soon = boottime() + min(2.0, self.settings["timeout"])
            self._bounded(stop, min(soon, deadline))

    def _bounded(
        self, act: Callable[[], _T], deadline: float, late: Callable[[_T], None] | None = None
    ) -> _T:
        """Run what tooz has no timeout for; where it is late, it goes on alone until it ends."""
        done: list[_T] = []
        failed: list[BaseException] = []
        guard = threading.Lock()
        given_up = False

        def run() -> None:
            try:
                result = act()
            except BaseException as error:
                failed.append(error)
                return
            with guard:
                done.append(result)
            if given_up and late is not None:
                late(result)

        thread = threading.Thread(target=run, name="hashring-tooz", daemon=True)
        thread.start()
        thread.join(max(0.0, deadline - boottime()))
        with guard:
            given_up = not done and not failed
        if given_up:
            raise TimeoutError("no answer in time")
        if failed:
            raise failed[0]
        return done[0]

    def _done(self, deadline: float, ask: Callable[..., Any], *arguments: Any) -> Any:
        """Ask tooz for something and return the result."""
        left = deadline - boottime()
        if left <= 0:
            raise TimeoutError("no answer in time")
        if not self._threaded:
            return self._bounded(lambda: ask(*arguments).get(), deadline)
        try:
            return ask(*arguments).get(timeout=left)
        except coordination.OperationTimedOut as error:
            raise TimeoutError("no answer in time") from error

    # -- small things

    def _deadline(self) -> float:
        return boottime() + float(self.settings["timeout"])

    @contextlib.contextmanager
    def _locked(self, lock: threading.Lock, deadline: float) -> Iterator[None]:
        self._check_open()
        if not lock.acquire(timeout=max(0.0, deadline - boottime())):
            raise StoreUnavailable(f"{self.url}: an earlier call still waits for the backend")
        try:
            self._check_open()
            yield
        finally:
            lock.release()

    @contextlib.contextmanager
    def _reported(self, doing: str) -> Iterator[None]:
        try:
            yield
        except HashringError:
            raise
        except (ToozError, OSError) as error:
            raise self.unavailable(doing, error) from error

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise StoreUnavailable(f"{self.url} is not open: call open() first")
        if self._opened_in != os.getpid():
            raise StoreUnusable(
                f"{self.url} was opened in process {self._opened_in}, and this is its fork "
                f"{os.getpid()}: open a driver of its own there"
            )

    def _exists(self, group: str, member: str) -> MemberExists:
        return MemberExists(
            f"{self.url}: member {member!r} of group {group!r} is alive in another incarnation, or "
            f"has been dead for less than {self.ttl:g} s"
        )

    def _lost(self, *names: tuple[str, str]) -> LeaseLost:
        who = ", ".join(f"{member!r} in group {group!r}" for group, member in names)
        return LeaseLost(f"{self.url}: the lease of {who} is gone")


def _group_id(group: str) -> bytes:
    # A prefix keeps us apart from the groups that tooz's own users make, and from "." and "..".
    return f"hashring:{quote(group, safe='')}".encode("ascii")


def _as_tooz_errors(act: Callable[[], object]) -> None:
    """Call what tooz does not wrap: some of its drivers let their library's errors through."""
    try:
        act()
    except ToozError:
        raise
    except Exception as error:
        raise ToozError(f"{type(error).__name__}: {error}") from error


def _disconnect(coordinator: Any) -> None:
    """Close what tooz leaves open: etcd's connections, and kazoo's pipe."""
    if (client := getattr(coordinator, "client", None)) is not None:
        client.session.close()
    if (client := getattr(coordinator, "_coord", None)) is not None:
        with contextlib.suppress(Exception):
            client.stop()
            client.close()


def _cut(client: Any) -> None:
    """Stop a kazoo client without ending its session, as if the process had died."""
    client._stopped.set()
    connection = client._connection
    with contextlib.suppress(OSError):
        if connection._socket is not None:
            connection._socket.shutdown(socket.SHUT_RDWR)
    with contextlib.suppress(OSError):
        if connection._write_sock is not None:
            connection._write_sock.send(b"\0")  # wakes the client's thread
    client._safe_close()
    client.close()
